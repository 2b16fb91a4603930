"""Traces of reasoning for the warm start, made by rule: nobody annotated any.

A trace names habits that the records show (length, case, opening, punctuation) and ends in a plan for this answer:
words of the query that it will use. It quotes no record: a policy that may quote one learns to copy it as its plan.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from prlm_cli.core.records import ProfileDocument
from prlm_cli.metrics.habits import SMALL_WORDS, habits

_WORD = re.compile(r"\w+")
_MAX_PLANNED = 4


def trace(text: str, profile: Sequence[ProfileDocument], target: str) -> str:
    """The reasoning that leads from a query's text and its records to the target."""
    titles = [record.title for record in profile if record.title]
    return f"Style: {', '.join(habits(titles)) or 'unknown'}. Plan: {_plan(text, target)}."


def _plan(text: str, target: str) -> str:
    asked = {word.lower() for word in _WORD.findall(text)}
    used = [word for word in dict.fromkeys(_WORD.findall(target.lower())) if word not in SMALL_WORDS and word in asked]
    return ", ".join(used[:_MAX_PLANNED]) if used else "own words"
