"""Rewards of an answer that is like the titles of the user's records shown, by a rule."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from prlm_cli.core.prompts import PromptBuilder
from prlm_cli.core.records import Retrieved, own_titles
from prlm_cli.metrics.stylometry import style_match
from prlm_cli.rewards import RewardContext

Match = Callable[[str, Sequence[str]], float]
"""How well an answer matches titles, in [0, 1]; neither is blank, and the order of the titles does not count."""


class AgainstTitles:
    """A match of the answer with the titles of the records, in [0, 1].

    0 where no answer can be read; it does not apply where no record of the user has a title.
    """

    def __init__(self, builder: PromptBuilder, match: Match) -> None:
        self._builder = builder
        self._match = match

    def __call__(self, *, completions: Sequence[str], queries: Sequence[Retrieved]) -> list[float | None]:
        """One reward a completion."""
        return [self._score(completion, query) for completion, query in zip(completions, queries, strict=True)]

    def _score(self, completion: str, query: Retrieved) -> float | None:
        titles = own_titles(query.profile)
        if not titles:
            return None
        answer = self._builder.parse(completion).answer
        return 0.0 if answer is None else self._match(answer, titles)


def length(context: RewardContext) -> AgainstTitles:
    """Whether the answer is as long as the titles, in [0, 1]; see `length_match`."""
    return AgainstTitles(context.builder, length_match)


def style(context: RewardContext) -> AgainstTitles:
    """Whether the answer is written like the titles, in [0, 1]; the metric `style`."""
    return AgainstTitles(context.builder, style_match)


def length_match(answer: str, titles: Sequence[str]) -> float:
    """The mean of min(n, m) / max(n, m) over the titles, in (0, 1], for an answer of n words and a title of m."""
    words = len(answer.split())
    lengths = [len(title.split()) for title in titles]
    return math.fsum(min(words, own) / max(words, own) for own in lengths) / len(lengths)
