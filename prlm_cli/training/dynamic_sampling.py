"""Prompts whose completions all get one reward: they teach nothing, and may be left out or replaced.

Their advantages are 0, but their tokens and rows count where the loss is divided. Left out (`skip`), a step is that of
the other groups alone. Replaced (`resample`), other prompts are drawn for them first, in rounds, and what still lacks
variance then is left out. Which prompts those are follows from the seed and the step, so a resumed run draws the same.

Source: Yu et al., DAPO (arXiv 2503.14476), dynamic sampling; here with a limit on the rounds, and for any reward: DAPO
draws until the batch is full, from groups whose answers are neither all right nor all wrong.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple, Protocol

import torch

from prlm_cli.training.collectives import joined

_LEAST = 1e-4
"""What TRL adds to a standard deviation: rewards that differ by less, as by rounding, give next to no advantage."""


class Drawn(NamedTuple):
    """Completions of N prompts, G of each together, and their (N*G, R) rewards, NaN where one does not apply."""

    prompts: list[str]
    completion_ids: list[list[int]]
    rewards: torch.Tensor


class Draw(Protocol):
    """Samples completions of prompts and scores them."""

    def __call__(self, prompts: list[str], first: int, number: int) -> Drawn:
        """What is drawn for N*G prompts.

        Args:
            prompts: Those of a group together.
            first: The place of the first in those of all processes.
            number: Of the draw in its step, from 0.
        """
        ...


class Resampling:
    """Draws groups, and others for those without variance.

    Args:
        prompts: All that there are.
        num_generations: G.
        rounds: How often others are drawn at most.
        seed: Of the order in which the others come.
    """

    def __init__(self, prompts: Collection[str], num_generations: int, rounds: int, seed: int) -> None:
        self._prompts = sorted(prompts)
        self._num_generations = num_generations
        self._rounds = rounds
        self._seed = seed

    def __call__(self, asked: Sequence[str], step: int, draw: Draw) -> tuple[Drawn, int]:
        """The groups of a step, and how many others were drawn; one that lacks variance remains if no other is left.

        Args:
            asked: The B*G prompts of this process, those of a group together; all processes call with theirs.
            step: Optimiser steps before this one.
            draw: Samples completions and scores them.
        """
        everyones, first = joined(asked)
        found, tried = draw(list(asked), first, 0), 0
        others = self._others(everyones, step)
        for number in range(1, self._rounds + 1):
            lacking = (~varies(found.rewards, self._num_generations)).nonzero().flatten().tolist()
            everyones, before = joined(lacking)
            prompts = list(islice(others, len(everyones)))
            if not prompts:
                break
            if own := prompts[before : before + len(lacking)]:
                rows = [prompt for prompt in own for _ in range(self._num_generations)]
                drawn = draw(rows, before * self._num_generations, number)
                found = self._replaced(found, lacking[: len(own)], drawn)
            tried += len(own)
        return found, tried

    def _others(self, asked: Sequence[str], step: int) -> Iterator[str]:
        taken = set(asked)
        others = [prompt for prompt in self._prompts if prompt not in taken]
        random.Random(f"resample:{self._seed}:{step}:{asked[0]}").shuffle(others)
        return iter(others)

    def _replaced(self, found: Drawn, groups: Sequence[int], drawn: Drawn) -> Drawn:
        """The groups of those numbers exchanged for the drawn ones, in order."""
        prompts, completion_ids, rewards = list(found.prompts), list(found.completion_ids), found.rewards.clone()
        rows = [group * self._num_generations + n for group in groups for n in range(self._num_generations)]
        for row, *others in zip(rows, *drawn, strict=True):
            prompts[row], completion_ids[row], rewards[row] = others
        return Drawn(prompts, completion_ids, rewards)


def varies(rewards: torch.Tensor, num_generations: int) -> torch.Tensor:
    """(N,) whether any reward differs within each group of G, given (N*G, R) rewards; NaN counts as 0, as in TRL."""
    groups = rewards.nan_to_num().view(-1, num_generations, rewards.shape[1])  # (N, G, R)
    return (groups.amax(1) - groups.amin(1) > _LEAST).any(-1)


def of_rows(scored: dict[str, Any], kept: torch.Tensor) -> dict[str, Any]:
    """A scored batch of some of its rows; of none, all rows with nothing in them that counts.

    Args:
        scored: What TRL's trainer made of rollouts: tensors of B*G rows, and numbers.
        kept: (B*G,) which rows.
    """
    if not kept.any():
        return scored | {"completion_mask": torch.zeros_like(scored["completion_mask"])}
    return {name: value[kept] if value.ndim else value for name, value in scored.items()}
