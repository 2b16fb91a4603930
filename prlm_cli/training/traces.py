"""Traces of reasoning for the warm start, made by rule: nobody annotated any.

A trace names habits that the records show (length, case, opening, punctuation) and ends in a plan for this answer:
words of the query that it will use. It quotes no record: a policy that may quote one learns to copy it as its plan.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import mean

from prlm_cli.core.records import ProfileDocument
from prlm_cli.core.terms import STOP_WORDS
from prlm_cli.metrics.stylometry import TRAITS

_WORD = re.compile(r"\w+")
_MAX_PLANNED = 4
_SMALL_WORDS = STOP_WORDS | {"from", "its"}


def trace(text: str, profile: Sequence[ProfileDocument], target: str) -> str:
    """The reasoning that leads from a query's text and its records to the target."""
    titles = [record.title for record in profile if record.title]
    return f"Style: {', '.join(habits(titles)) or 'unknown'}. Plan: {_plan(text, target)}."


def habits(titles: Sequence[str]) -> list[str]:
    """What most of the titles have in common, a few words each."""
    if not titles:
        return []
    found = [f"{round(mean(len(title.split()) for title in titles))} words", _most_common(map(_case, titles))]
    for name, has in TRAITS.items():
        if sum(bool(has(title)) for title in titles) * 2 > len(titles):
            found.append(name)
    if opening := _opening(titles):
        found.append(f"opens with {opening}")
    return found


def _opening(titles: Sequence[str]) -> str:
    """The first word, where more than half of the titles share it; never a whole title.

    More words than one taught the policy to quote a record as its plan.
    """
    common = _most_common(title.split()[0] for title in titles if title.split())
    shared = sum(title.split()[:1] == [common] for title in titles)
    return common if shared * 2 > len(titles) and common not in titles else ""


def _case(title: str) -> str:
    letters = [character for character in title if character.isalpha()]
    words = [word for word in title.split() if word[:1].isalpha() and word.lower() not in _SMALL_WORDS]
    if letters and all(character.isupper() for character in letters):
        return "capitals"
    if not any(character.isupper() for character in title):
        return "lower case"
    return "title case" if len(words) > 1 and all(word[0].isupper() for word in words) else "sentence case"


def _plan(text: str, target: str) -> str:
    asked = {word.lower() for word in _WORD.findall(text)}
    used = [word for word in dict.fromkeys(_WORD.findall(target.lower())) if word not in _SMALL_WORDS and word in asked]
    return ", ".join(used[:_MAX_PLANNED]) if used else "own words"


def _most_common(values: Iterable[str]) -> str:
    return Counter(values).most_common(1)[0][0]
