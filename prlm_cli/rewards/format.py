"""Form: one closed thought and a readable answer."""

from __future__ import annotations

from collections.abc import Sequence

from prlm_cli.core.records import Retrieved
from prlm_cli.rewards import RewardContext


class Format:
    """1.0 for a completion of the form that the prompt asks for, else 0.0.

    Source: PrLM (arXiv 2508.07342), reward term F; the original asks only for a line break before </think>.
    """

    def __init__(self, context: RewardContext) -> None:
        self._builder = context.builder

    def __call__(self, *, completions: Sequence[str], queries: Sequence[Retrieved]) -> list[float | None]:
        """One reward a completion."""
        return [float(self._builder.is_well_formed(completion)) for completion in completions]
