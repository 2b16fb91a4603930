"""What pays for anybody does not pay: the overlap with another user's answer, taken away."""

from __future__ import annotations

from collections.abc import Sequence

from prlm_cli.core.errors import SettingsError
from prlm_cli.core.records import Retrieved
from prlm_cli.rewards import RewardContext
from prlm_cli.rewards.overlap import overlap


class Contrast:
    """Minus the overlap with another user's answer to what is most like the query, in [-3, 0].

    Beside the reward `overlap`, with weights w and w', a completion y to user u's query is paid

        w * overlap(y, answer of u) - w' * overlap(y, answer of v)

    Both answers are the same for all completions of a group, so an advantage is that of the difference: with equal
    weights, words that both answers have are worth nothing, and those of u alone all of theirs. 0 where no answer can
    be read; it does not apply where nobody else was asked anything like it. The other answer reaches no prompt.

    Raises:
        SettingsError: Where other users' answers are not at hand.
    """

    def __init__(self, context: RewardContext) -> None:
        if context.other_answer is None:
            raise SettingsError(
                "the reward 'contrast' needs other users' answers", hint="use `prlm train-policy --contrast swapped`"
            )
        self._builder = context.builder
        self._other_answer = context.other_answer

    def __call__(self, *, completions: Sequence[str], queries: Sequence[Retrieved]) -> list[float | None]:
        """One reward a completion."""
        return [self._score(completion, query) for completion, query in zip(completions, queries, strict=True)]

    def _score(self, completion: str, query: Retrieved) -> float | None:
        other = self._other_answer(query)
        return None if other is None else -overlap(self._builder.parse(completion).answer, other)
