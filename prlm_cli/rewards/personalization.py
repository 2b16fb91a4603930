"""The personalisation reward model's opinion of the answer."""

from __future__ import annotations

from collections.abc import Sequence

from prlm_cli.core.errors import SettingsError
from prlm_cli.core.records import Retrieved
from prlm_cli.models.scorer import Item
from prlm_cli.rewards import RewardContext


class Personalization:
    """`sigmoid(s / T)` of the reward model's score, in [0, 1]; 0 where no answer can be read.

    Source: PrLM (arXiv 2508.07342), reward term sigmoid(s_phi); here the model sees the profile, and T is fitted.
    """

    def __init__(self, context: RewardContext) -> None:
        if context.reward_model is None:
            raise SettingsError(
                "the reward 'personalization' needs a reward model", hint="run `prlm train-reward` first"
            )
        self._builder = context.builder
        self._reward_model = context.reward_model

    def __call__(self, *, completions: Sequence[str], queries: Sequence[Retrieved]) -> list[float | None]:
        """One reward a completion."""
        answers = [self._builder.parse(completion).answer for completion in completions]
        items = [Item(q.text, q.profile, a) for q, a in zip(queries, answers, strict=True) if a is not None]
        scored = iter(self._reward_model.rewards(items))
        return [0.0 if answer is None else next(scored) for answer in answers]
