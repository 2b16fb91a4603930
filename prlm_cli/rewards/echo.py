"""The echo rule as a reward: how much the answer sounds like the titles of the user's nearest records."""

from __future__ import annotations

from collections.abc import Sequence

from prlm_cli.core.records import Retrieved
from prlm_cli.models.echo import echo
from prlm_cli.rewards import RewardContext


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
