"""Overlap with the user's real answer: the main term of PrLM's reward."""

from __future__ import annotations

from collections.abc import Sequence

from prlm_cli.core.records import Retrieved
from prlm_cli.metrics.rouge import rouge
from prlm_cli.rewards import RewardContext


class Overlap:
    """ROUGE-1 + ROUGE-2 + ROUGE-L (F1) of the answer against the target, in [0, 3].

    Source: PrLM (arXiv 2508.07342), reward terms R1 + R2 + RL; here with the official ROUGE tokens. 0 where no answer
    can be read, None where the query has no target.
    """

    def __init__(self, context: RewardContext) -> None:
        self._builder = context.builder

    def __call__(self, *, completions: Sequence[str], queries: Sequence[Retrieved]) -> list[float | None]:
        """One reward a completion."""
        return [self._score(completion, query.target) for completion, query in zip(completions, queries, strict=True)]

    def _score(self, completion: str, target: str | None) -> float | None:
        return None if target is None else overlap(self._builder.parse(completion).answer, target)


def overlap(answer: str | None, target: str) -> float:
    """ROUGE-1 + ROUGE-2 + ROUGE-L (F1), in [0, 3]; 0 where there is no answer."""
    return float(sum(rouge(answer, target)))
