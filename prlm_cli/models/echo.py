"""Echo: how much an answer sounds like the titles of the user's nearest records. A rule, without any training.

It is what a reward model has to beat, a reward of its own, and what a reward model starts from (`with_echo`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

from prlm_cli.core.records import ProfileDocument
from prlm_cli.models.scorer import Item

_WORD = re.compile(r"[a-z0-9]+")  # as in ROUGE


def echo(answer: str, profile: Sequence[ProfileDocument]) -> float:
    """The mean ROUGE-1 F1 of an answer with the titles of the records, in [0, 1]; 0 without any."""
    words = _words(answer)
    return sum(_overlap(words, _words(record.title or "")) for record in profile) / max(1, len(profile))


class EchoRule:
    """The rule as a scorer; 0 without records."""

    def scores(self, items: Sequence[Item]) -> list[float]:
        """One score an item."""
        return [echo(item.answer, item.profile) for item in items]


def _overlap(a: Counter[str], b: Counter[str]) -> float:
    # By hand: thousands of pairs are judged by this rule, each against every title.
    total = a.total() + b.total()
    return 2 * (a & b).total() / total if total else 0.0


@lru_cache(maxsize=4096)  # a title comes again with every answer to its query
def _words(text: str) -> Counter[str]:
    return Counter(_WORD.findall(text.lower()))
