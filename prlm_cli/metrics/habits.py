"""What one author's titles have in common: length, case, opening, punctuation, recurring words. Counted, no model."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import mean
from typing import NamedTuple

from prlm_cli.core.terms import STOP_WORDS
from prlm_cli.metrics.stylometry import TRAITS

SMALL_WORDS = STOP_WORDS | {"from", "its"}
"""Words that a title in title case may leave lower, and that say nothing of what it is about."""

_WORD = re.compile(r"\w+")
_LONGEST_WORD = 20  # characters; a card stays one line, whatever anybody wrote
_MOST_OPENINGS = 3
_MOST_WORDS = 5
_RARE = 0.1  # share of the titles below which a word or an opening is no habit


class Manner(NamedTuple):
    """How one title is written: its number of words, case, traits by name, first word, and the words that say much."""

    length: int
    case: str
    traits: tuple[str, ...]
    opening: str
    words: frozenset[str]


def manner(title: str) -> Manner:
    """How a title, or a longer text, is written."""
    words = title.split()
    said = frozenset(word for word in _WORD.findall(title.lower()) if word not in SMALL_WORDS)
    traits = tuple(name for name, has in TRAITS.items() if has(title))
    return Manner(len(words), _case(title), traits, words[0] if words else "", said)


def habits(titles: Sequence[str]) -> list[str]:
    """What most of the titles have in common, a few words each."""
    if not titles:
        return []
    found = [f"{round(mean(len(title.split()) for title in titles))} words", _most_common(map(_case, titles))]
    for name, has in TRAITS.items():
        if sum(bool(has(title)) for title in titles) * 2 > len(titles):
            found.append(name)
    if opening := _shared_opening(titles):
        found.append(f"opens with {opening}")
    return found


def card(manners: Sequence[Manner]) -> str:
    """One line on how an author writes: the middle half of the lengths, and what recurs. Empty without any title.

    Openings and words are listed the commonest first, where at least two titles and a tenth of all have them.

    Args:
        manners: Of each title of the author, in any order.
    """
    if not manners:
        return ""
    found = [_length([one.length for one in manners]), _commonest(one.case for one in manners)]
    traits = Counter(name for one in manners for name in one.traits)
    found += [name for name in TRAITS if traits[name] * 2 > len(manners)]
    openings = _recurring(Counter(one.opening for one in manners), len(manners))[:_MOST_OPENINGS]
    words = _recurring(Counter(word for one in manners for word in one.words), len(manners))[:_MOST_WORDS]
    found += [f"opens with {' or '.join(openings)}"] if openings else []
    found += [f"often says {', '.join(words)}"] if words else []
    return "; ".join(found)


def _length(lengths: Sequence[int]) -> str:
    ordered, quarter = sorted(lengths), len(lengths) // 4
    low, high = ordered[quarter], ordered[-1 - quarter]
    return f"{low} to {high} words" if low != high else f"{low} word{'s' * (low != 1)}"


def _recurring(counts: Counter[str], titles: int) -> list[str]:
    often = [word for word, count in counts.items() if count > 1 and count >= _RARE * titles]
    return sorted((word for word in often if 0 < len(word) <= _LONGEST_WORD), key=lambda word: (-counts[word], word))


def _shared_opening(titles: Sequence[str]) -> str:
    """The first word, where more than half of the titles share it; never a whole title.

    More words than one taught the policy to quote a record as its plan.
    """
    common = _most_common(title.split()[0] for title in titles if title.split())
    shared = sum(title.split()[:1] == [common] for title in titles)
    return common if shared * 2 > len(titles) and common not in titles else ""


def _case(title: str) -> str:
    letters = [character for character in title if character.isalpha()]
    words = [word for word in title.split() if word[:1].isalpha() and word.lower() not in SMALL_WORDS]
    if letters and all(character.isupper() for character in letters):
        return "capitals"
    if not any(character.isupper() for character in title):
        return "lower case"
    return "title case" if len(words) > 1 and all(word[0].isupper() for word in words) else "sentence case"


def _most_common(values: Iterable[str]) -> str:
    return Counter(values).most_common(1)[0][0]


def _commonest(values: Iterable[str]) -> str:
    """The value that is there most often; of equal ones the first by name, whatever the order."""
    counts = Counter(values)
    return min(counts, key=lambda value: (-counts[value], value))
