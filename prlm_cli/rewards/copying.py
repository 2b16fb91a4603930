"""A penalty on answers that are copied from the titles of the records: the cheapest way to sound like the user."""

from __future__ import annotations

from collections.abc import Sequence

from prlm_cli.core.records import Retrieved
from prlm_cli.metrics.copy_rate import copied_share
from prlm_cli.rewards import RewardContext


class Copying:
    """Minus the share of the answer's runs of four words that stand in a title of the records, in [-1, 0].

    0 where no answer can be read; it does not apply where the query has no records. The metric is `copy_rate`.
    """

    def __init__(self, context: RewardContext) -> None:
        self._builder = context.builder

    def __call__(self, *, completions: Sequence[str], queries: Sequence[Retrieved]) -> list[float | None]:
        """One reward a completion."""
        answers = (self._builder.parse(completion).answer for completion in completions)
        return [
            -copied_share(answer or "", query.profile) if query.profile else None
            for answer, query in zip(answers, queries, strict=True)
        ]
