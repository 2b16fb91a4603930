"""Echo: how much the answer sounds like the titles of the user's nearest records. A rule, without any training.

It is what a reward model has to beat, and a reward of its own.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

from prlm_cli.core.records import ProfileDocument, Retrieved
from prlm_cli.models.scorer import Item
from prlm_cli.rewards import RewardContext

_WORD = re.compile(r"[a-z0-9]+")  # as in ROUGE


class Echo:
    """Mean overlap of the answer with the titles of the records shown, in [0, 1]: ROUGE-1 F1 with each.

    As a reward it is 0 where no answer can be read, and does not apply where the query has no records.
    """

    def __init__(self, context: RewardContext) -> None:
        self._builder = context.builder

    def __call__(self, *, completions: Sequence[str], queries: Sequence[Retrieved]) -> list[float | None]:
        """One reward a completion."""
        answers = (self._builder.parse(completion).answer for completion in completions)
        return [
            echo(answer or "", query.profile) if query.profile else None
            for answer, query in zip(answers, queries, strict=True)
        ]


class EchoRule:
    """The same as a scorer; 0 without records."""

    def scores(self, items: Sequence[Item]) -> list[float]:
        """One score an item."""
        return [echo(item.answer, item.profile) for item in items]


def echo(answer: str, profile: Sequence[ProfileDocument]) -> float:
    """The mean ROUGE-1 F1 of an answer with the titles of the records; 0 without any."""
    words = _words(answer)
    return sum(_overlap(words, _words(record.title or "")) for record in profile) / max(1, len(profile))


def _overlap(a: Counter[str], b: Counter[str]) -> float:
    # By hand: thousands of pairs are judged by this rule, each against every title.
    total = a.total() + b.total()
    return 2 * (a & b).total() / total if total else 0.0


@lru_cache(maxsize=4096)  # a title comes again with every answer to its query
def _words(text: str) -> Counter[str]:
    return Counter(_WORD.findall(text.lower()))
