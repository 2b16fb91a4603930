"""Rewards on one scale before their weights act: of unlike spread, the widest would decide.

Each reward by itself becomes (r - mean) / (standard deviation + 1e-4), over the values that it gave:

    group     in the G completions of the prompt
    batch     in all completions of the step
    running   in all completions so far, those of this step included

Where a reward does not apply it has no value: it counts in no mean, and adds 0 to the weighted sum, which is the mean
once it is normalised, but may be a low reward where it is not. The trainer subtracts the group's mean from that sum in
any case. With `group` for every reward and `scale_rewards` "batch" the advantages are those of GDPO (arXiv 2601.05242),
TRL's `normalize_then_sum`; TRL has no choice a reward, and none that looks further back.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from prlm_cli.core import ranks
from prlm_cli.core.settings import RewardScale
from prlm_cli.training.checkpoints import checkpoint_of

_EPSILON = 1e-4  # as in TRL
_FILE = "reward_moments.json"


class Moments:
    """Count, mean and sum of squared deviations of R rewards, added to batch by batch; NaN is no value.

    Source: Chan, Golub and LeVeque (1979), the combination of two samples.
    """

    def __init__(self, number: int) -> None:
        self.count, self.mean, self.squares = torch.zeros(3, number, dtype=torch.float64)

    def add(self, values: torch.Tensor) -> None:
        """Adds (N, R) values."""
        count = (~values.isnan()).sum(0).double()
        mean = values.nanmean(0).nan_to_num()
        squares = ((values - mean) ** 2).nansum(0)
        both = (self.count + count).clamp(min=1)
        apart = mean - self.mean
        self.squares = self.squares + squares + apart**2 * self.count * count / both
        self.mean = self.mean + apart * count / both
        self.count = self.count + count

    @property
    def deviation(self) -> torch.Tensor:
        """(R,) standard deviations with Bessel's correction; 0 of fewer than two values."""
        return torch.sqrt(self.squares / (self.count - 1).clamp(min=1))


class RewardNormalization:
    """Puts each reward on its scale.

    Args:
        scales: One a reward.
        num_generations: G.
    """

    def __init__(self, scales: Sequence[RewardScale], num_generations: int) -> None:
        self._scales = list(scales)
        self._num_generations = num_generations
        self._running = Moments(len(scales))

    def __call__(self, rewards: torch.Tensor) -> torch.Tensor:
        """(B*G, R) rewards, those of a prompt together -> the same normalised; NaN where a reward does not apply."""
        values = rewards.detach().double().cpu()
        self._running.add(values)
        groups = values.view(-1, self._num_generations, values.shape[1])  # (B, G, R)
        found = {
            "none": values,
            "group": torch.cat([_standardised(group, _moments_of(group)) for group in groups]),
            "batch": _standardised(values, _moments_of(values)),
            "running": _standardised(values, self._running),
        }
        columns = [found[scale][:, column] for column, scale in enumerate(self._scales)]
        return torch.stack(columns, dim=1).to(rewards)

    def save(self, folder: Path) -> None:
        """Writes what a run that goes on from a checkpoint has to know."""
        moments = [column.tolist() for column in (self._running.count, self._running.mean, self._running.squares)]
        (folder / _FILE).write_text(json.dumps(moments))

    def load(self, folder: Path) -> None:
        """Reads it back; a checkpoint from before there was normalisation has none."""
        if (folder / _FILE).exists():
            moments = torch.tensor(json.loads((folder / _FILE).read_text()), dtype=torch.float64)
            self._running.count, self._running.mean, self._running.squares = moments


class KeepNormalization(TrainerCallback):  # type: ignore[misc]
    """Keeps the normalisation in each checkpoint; comes before the callback that completes it."""

    def __init__(self, normalization: RewardNormalization) -> None:
        self._normalization = normalization

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Reads it back where training goes on from a checkpoint."""
        if state.global_step:
            self._normalization.load(checkpoint_of(args, state))

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Writes it beside the trainer's own files."""
        if ranks.is_main():
            self._normalization.save(checkpoint_of(args, state))


def _moments_of(values: torch.Tensor) -> Moments:
    moments = Moments(values.shape[1])
    moments.add(values)
    return moments


def _standardised(values: torch.Tensor, moments: Moments) -> torch.Tensor:
    return torch.div(values - moments.mean, moments.deviation + _EPSILON)
