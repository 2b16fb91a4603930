"""A penalty on completions that come near the longest one: what is cut there has no answer, and trains nothing."""

from __future__ import annotations

from collections.abc import Sequence

from prlm_cli.core.errors import SettingsError
from prlm_cli.core.records import Retrieved
from prlm_cli.rewards import RewardContext

_SHARE = 0.2
"""Of the longest completion, its end in which length costs; DAPO's 4,096 of 20,480 tokens."""


class Overlong:
    """0 up to four fifths of the longest completion, from there falling evenly to -1 for the longest, in [-1, 0].

    Source: Yu et al., DAPO (arXiv 2503.14476), soft overlong punishment, eq. 13; here in tokens of the decoded text.

    Raises:
        SettingsError: Where it is not known how long a completion may be.
    """

    def __init__(self, context: RewardContext) -> None:
        if context.max_new_tokens is None:
            raise SettingsError("the reward 'overlong' needs a longest completion", hint="use it in `train-policy`")
        self._count = context.builder.codec.count
        self._longest = context.max_new_tokens

    def __call__(self, *, completions: Sequence[str], queries: Sequence[Retrieved]) -> list[float | None]:
        """One reward a completion."""
        free, costly = (1 - _SHARE) * self._longest, _SHARE * self._longest
        return [-min(max(self._count(completion) - free, 0.0) / costly, 1.0) for completion in completions]
