"""Rewards: completions -> one number each, or None where a reward does not apply. One file and one line each.

More is better, so that weights are above 0: a penalty is at most 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from prlm_cli.core.prompts import PromptBuilder
from prlm_cli.core.records import Date, Query, Retrieved
from prlm_cli.core.registry import Registry

if TYPE_CHECKING:
    from prlm_cli.models.reward_model import RewardModel


class Reward(Protocol):
    """Scores B*G completions, in order; an exception is a bug and is never swallowed."""

    def __call__(self, *, completions: Sequence[str], queries: Sequence[Retrieved]) -> list[float | None]:
        """One reward a completion; `queries` holds each one's query with its records."""
        ...


class Titles(NamedTuple):
    """What a classifier of authors learns from for one query: titles older than it, the user's own and others'."""

    own: Sequence[str]
    others: Sequence[str]


def asker(query: Query) -> tuple[str, str, Date | None]:
    """Who asks, what and when: queries that agree in it see the same titles. Ids of queries alone may come again."""
    return query.user_id, query.query_id, query.date


@dataclass(frozen=True)
class RewardContext:
    """What rewards are made from.

    Args:
        builder: The policy's, which reads completions.
        reward_model: None where there is none.
        titles: What each training query's classifier of authors learns from; None where no reward asks for it.
        other_answer: Another user's answer to what is most like a training query, None for a query that has none; None
            where no reward asks for it.
        max_new_tokens: Longest completion; None where that is not known.
    """

    builder: PromptBuilder
    reward_model: RewardModel | None = None
    titles: Callable[[Query], Titles] | None = None
    other_answer: Callable[[Query], str | None] | None = None
    max_new_tokens: int | None = None


MakeReward = Callable[[RewardContext], Reward]

REWARDS: Registry[MakeReward] = Registry(
    "reward",
    {
        "overlap": "prlm_cli.rewards.overlap:Overlap",
        "format": "prlm_cli.rewards.format:Format",
        "personalization": "prlm_cli.rewards.personalization:Personalization",
        "echo": "prlm_cli.rewards.echo:Echo",
        "length": "prlm_cli.rewards.against_titles:length",
        "style": "prlm_cli.rewards.against_titles:style",
        "author": "prlm_cli.rewards.author:Author",
        "contrast": "prlm_cli.rewards.contrast:Contrast",
        "copy": "prlm_cli.rewards.copying:Copying",
        "overlong": "prlm_cli.rewards.overlong:Overlong",
    },
)
