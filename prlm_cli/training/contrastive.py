"""Contrastive training of the reward model.

Source: PrLM (arXiv 2508.07342), the Bradley-Terry loss `-log sigmoid(s(chosen) - s(rejected))`. It differs in this:

1. Both scores see the profile, where the model does.
2. A pair with another user's records D' also counts by its *interaction*
   `s(D,chosen) - s(D,rejected) - s(D',chosen) + s(D',rejected)`, in which what D says of the topic and how good an
   answer is cancel; only their fit is left.
3. Pairs weigh by their kind and, where asked for, so that each user weighs the same; a pair may ask for a margin.

A step takes whole queries, each with all of its pairs, so that each prompt is computed once for all answers. TRL's
`RewardTrainer` knows pairs only: it would compute each prompt once for every answer of every pair, and has no place for
the interaction. So it is transformers' `Trainer`, with a loss and a way to save of our own.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import Trainer, TrainingArguments

from prlm_cli.core.errors import SettingsError
from prlm_cli.core.records import PreferencePair, ProfileDocument
from prlm_cli.core.reporting import Stage
from prlm_cli.core.settings import RewardSettings
from prlm_cli.models.loading import is_in_bf16
from prlm_cli.models.quiet import quiet_libraries
from prlm_cli.models.reward_model import Encoded, RewardModel
from prlm_cli.models.scorer import Item
from prlm_cli.training.arguments import common_arguments, keep_to_one_gpu
from prlm_cli.training.callbacks import Log, ReportProgress, StopOnSignal
from prlm_cli.training.checkpoints import SealCheckpoints, train_on
from prlm_cli.training.order import query_order
from prlm_cli.training.supervised import remove_printer

_SAVES = 4


class Contrast(NamedTuple):
    """A pair within its group: the positions of its inputs, the margin it asks for and its weight in the loss.

    `crossed` are the same answers with the other user's records; None where there are none.
    """

    chosen: int
    rejected: int
    crossed: tuple[int, int] | None
    margin: float
    weight: float


class Group(NamedTuple):
    """All pairs of one query with one profile, and what they score: each input once."""

    inputs: list[Encoded]
    contrasts: list[Contrast]


def train_contrastive(
    reward_model: RewardModel,
    pairs: Sequence[PreferencePair],
    settings: RewardSettings,
    *,
    seed: int,
    checkpoints: Path,
    stage: Stage,
    log: Log,
) -> int:
    """Trains the network to score each chosen answer above its rejected one, and says in how many steps.

    Goes on from the newest complete checkpoint in `checkpoints`.

    Args:
        reward_model: Changed in place.
        pairs: The training set; chosen and rejected share query and profile.
        settings: Loss, steps, batch size, learning rate.
        seed: Of the order of the queries and of dropout.
        checkpoints: Folder for checkpoints.
        stage: Progress.
        log: Takes each step's figures.

    Raises:
        Diverged: If the loss is not finite.
        SettingsError: If no pair has a weight.
    """
    groups = groups_of(reward_model, pairs, settings)
    steps = settings.steps or math.ceil(settings.epochs * len(groups) / settings.batch_size)
    names = [f"{n:09}" for n in range(len(groups))]
    order = query_order(names, steps * settings.batch_size, seed)
    rate = settings.learning_rate or reward_model.network.learning_rate
    if torch.cuda.is_available():
        _checkpoint_activations(reward_model.network)
    stop = StopOnSignal()
    with quiet_libraries(), stop:
        trainer = _ContrastiveTrainer(
            groups,
            settings.interaction,
            model=reward_model.network,
            args=_arguments(settings, steps, rate, seed, checkpoints, bf16=is_in_bf16(reward_model.network.model)),
            train_dataset=[{"group": int(name)} for name in order],
            data_collator=lambda rows: {"group": torch.tensor([row["group"] for row in rows])},
            callbacks=[SealCheckpoints(), stop, ReportProgress(stage, log, {"loss": "loss", "accuracy": "accuracy"})],
        )
        remove_printer(trainer)
        train_on(trainer)
    return steps


def groups_of(reward_model: RewardModel, pairs: Sequence[PreferencePair], settings: RewardSettings) -> list[Group]:
    """The pairs by query and profile, in the order of their first appearance.

    The weights of the pairs are such that those of a query come to 1 on average.

    Raises:
        SettingsError: If no pair has a weight.
    """
    weights = _weights(pairs, settings)
    by_query: dict[tuple[str, tuple[ProfileDocument, ...]], list[int]] = {}
    for n, pair in enumerate(pairs):
        if weights[n]:
            by_query.setdefault((pair.text, tuple(pair.profile)), []).append(n)
    if not by_query:
        raise SettingsError("reward.kind_weights leaves no pair a weight", hint="give one of their kinds a weight")
    share = len(by_query) / sum(weights)
    # A model that is blind to the profile has no interaction: it would be computed for nothing.
    crosses = reward_model.sees_profile and settings.interaction > 0
    return [
        _group(reward_model, [(pairs[n], weights[n] * share) for n in members], settings.margin, crosses)
        for members in by_query.values()
    ]


def loss_of(scores: torch.Tensor, contrasts: Sequence[Contrast], interaction: float) -> torch.Tensor:
    """The loss of a group, a scalar: of each pair the Bradley-Terry loss and that of its interaction, weighted.

    Args:
        scores: (N,), of the group's inputs.
        contrasts: Of the group.
        interaction: Weight of the interaction.
    """
    terms = []
    for contrast in contrasts:
        margin = scores[contrast.chosen] - scores[contrast.rejected]
        term = torch.nn.functional.softplus(contrast.margin - margin)
        if contrast.crossed:
            chosen, rejected = contrast.crossed
            delta = margin - scores[chosen] + scores[rejected]
            term = term + interaction * torch.nn.functional.softplus(-delta)
        terms.append(contrast.weight * term)
    return torch.stack(terms).sum()


class _ContrastiveTrainer(Trainer):  # type: ignore[misc]
    """The library's trainer with the loss of groups, and checkpoints that hold what is trained only.

    Args:
        groups: What the rows of the data set number.
        interaction: Its weight in the loss.
        arguments: Of the library's trainer.
    """

    def __init__(self, groups: Sequence[Group], interaction: float, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._groups = groups
        self._interaction = interaction
        self._hits: list[bool] = []

    def compute_loss(
        self, model: Any, inputs: Mapping[str, torch.Tensor], return_outputs: bool = False, **_: Any
    ) -> torch.Tensor:
        """The mean loss of the groups; the trainer takes the mean over the micro-batches of a step."""
        groups = [self._groups[n] for n in inputs["group"].tolist()]
        scores = model([encoded for group in groups for encoded in group.inputs])
        by_group = scores.split([len(group.inputs) for group in groups])
        for found, group in zip((scored.tolist() for scored in by_group), groups, strict=True):
            self._hits += [found[contrast.chosen] > found[contrast.rejected] for contrast in group.contrasts]
        losses = [loss_of(found, g.contrasts, self._interaction) for found, g in zip(by_group, groups, strict=True)]
        return torch.stack(losses).mean()

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the accuracy since the last time."""
        if self._hits:
            logs["accuracy"] = sum(self._hits) / len(self._hits)
            self._hits = []
        super().log(logs, start_time)

    def _move_model_to_device(self, model: Any, device: torch.device) -> None:
        """Nothing: it was loaded where it is, and a model in 4 bits cannot be moved."""

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        self.model.save(Path(output_dir or self.args.output_dir))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        self.model.restore(Path(resume_from_checkpoint))


def _group(
    reward_model: RewardModel, pairs: Sequence[tuple[PreferencePair, float]], margin: float, crosses: bool
) -> Group:
    items: list[Item] = []
    places: list[tuple[int, int | None, PreferencePair, float]] = []
    for pair, weight in pairs:
        start, crossed = len(items), None
        items += [Item(pair.text, pair.profile, answer) for answer in (pair.chosen, pair.rejected)]
        if crosses and pair.swapped_profile:
            crossed = len(items)
            items += [Item(pair.text, pair.swapped_profile, answer) for answer in (pair.chosen, pair.rejected)]
        places.append((start, crossed, pair, weight))
    encoded = reward_model.encode(items)
    inputs = list(dict.fromkeys(encoded))
    at = {found: n for n, found in enumerate(inputs)}
    where = [at[found] for found in encoded]
    contrasts = [
        Contrast(
            where[start],
            where[start + 1],
            None if crossed is None else (where[crossed], where[crossed + 1]),
            margin + pair.margin,
            weight,
        )
        for start, crossed, pair, weight in places
    ]
    return Group(inputs, contrasts)


def _weights(pairs: Sequence[PreferencePair], settings: RewardSettings) -> list[float]:
    of_kind = [settings.kind_weights.get(pair.kind, 1.0) for pair in pairs]
    if settings.user_weights == "equal-pairs":
        return of_kind
    of_user: defaultdict[str, float] = defaultdict(float)
    for pair, weight in zip(pairs, of_kind, strict=True):
        of_user[pair.user_id] += weight
    return [weight and weight / of_user[pair.user_id] for pair, weight in zip(pairs, of_kind, strict=True)]


def _arguments(
    settings: RewardSettings, steps: int, learning_rate: float, seed: int, checkpoints: Path, *, bf16: bool
) -> TrainingArguments:
    common = common_arguments(checkpoints, steps=steps, learning_rate=learning_rate, seed=seed, bf16=bf16)
    arguments = TrainingArguments(
        **common
        | {
            "lr_scheduler_type": settings.schedule,
            "gradient_checkpointing": False,  # the trainer would look for it on the network itself
        },
        per_device_train_batch_size=settings.micro_batch,
        gradient_accumulation_steps=settings.batch_size // settings.micro_batch,
        warmup_steps=round(settings.warmup * steps),
        save_steps=max(1, steps // _SAVES),
        max_grad_norm=1.0,
        remove_unused_columns=False,
        train_sampling_strategy="sequential",  # the order is written down
    )
    keep_to_one_gpu(arguments)
    return arguments


def _checkpoint_activations(network: Any) -> None:
    """Trades time for memory: activations are computed again on the way back."""
    network.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
