"""Rewards: completions -> one number each, or None where a reward does not apply. One file and one line each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from prlm_cli.core.prompts import PromptBuilder
from prlm_cli.core.records import Retrieved
from prlm_cli.core.registry import Registry


class Reward(Protocol):
    """Scores B*G completions, in order; an exception is a bug and is never swallowed."""

    def __call__(self, *, completions: Sequence[str], queries: Sequence[Retrieved]) -> list[float | None]:
        """One reward a completion; `queries` holds each one's query with its records."""
        ...


MakeReward = Callable[[PromptBuilder, Any], Reward]
"""Makes a reward from the policy's prompt builder and the reward model (None where there is none)."""

REWARDS: Registry[MakeReward] = Registry(
    "reward",
    {
        "overlap": "prlm_cli.rewards.overlap:Overlap",
        "format": "prlm_cli.rewards.format:Format",
        "personalization": "prlm_cli.rewards.personalization:Personalization",
        "echo": "prlm_cli.rewards.echo:Echo",
    },
)
