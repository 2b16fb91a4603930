"""Any metric of `prlm eval` as a reward."""

from __future__ import annotations

from collections.abc import Sequence

from prlm_cli.core.records import Generation, Retrieved, widen
from prlm_cli.metrics import Metric
from prlm_cli.rewards import RewardContext


class MetricReward:
    """What a metric says of each completion, as it is: one of which lower is better wants a weight below 0.

    It does not apply where the metric does not.
    """

    def __init__(self, context: RewardContext, metric: Metric) -> None:
        self._builder = context.builder
        self._metric = metric

    def __call__(self, *, completions: Sequence[str], queries: Sequence[Retrieved]) -> list[float | None]:
        """One reward a completion."""
        pairs = zip(completions, queries, strict=True)
        return [self._metric(self._generation(completion, query)) for completion, query in pairs]

    def _generation(self, completion: str, query: Retrieved) -> Generation:
        reasoning, answer = self._builder.parse(completion)
        made = {"completion": completion, "reasoning": reasoning, "answer": answer}
        return widen(Generation, query, **made, policy="in training", seed=0)
