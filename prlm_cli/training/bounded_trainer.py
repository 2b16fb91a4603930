"""TRL's GRPO trainer with an update in passes of bounded memory, the prompt of a group computed once where it can be.

TRL hands over all completions of a step at once. Its loss is computed for each pass over the whole step, with a graph
for the rows of that pass alone: the gradient is those rows' part of the whole one, whatever the loss is divided by, so
neither the size of the passes nor what becomes of it when memory runs out changes the step. (This holds for every loss
whose terms belong to one row each: all of TRL's as long as its `top_entropy_quantile` stays 1.)
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any, NamedTuple

import torch
from trl import GRPOTrainer

from prlm_cli.models.sharding import is_sharded, pass_along
from prlm_cli.training import shared_prefix
from prlm_cli.training.back_off import BackOff
from prlm_cli.training.collectives import average_gradients, highest
from prlm_cli.training.micro_batches import Group, Pass, groups_of, packed_passes, row_passes
from prlm_cli.training.shared_prefix import Scored

LESS_MEMORY = "set policy.gradient_checkpointing=on, lower prompt.max_tokens or policy.max_new_tokens, or try --qlora"
"""What to do where nothing is small enough."""

LOSS_WEIGHT = "loss_weight"
"""The name, among the inputs of a step, of what the loss of this process counts in the mean over all; without it 1."""

_SMALLER_PASSES = "no process can try again alone with policy.shard_base: lower policy.micro_batch_tokens"


class Step(NamedTuple):
    """The B*G rows of a step: prompts padded on the left, completions of at most C tokens on the right."""

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    completion_length: int


class Known(NamedTuple):
    """(B*G, C) log-probabilities and entropies of a step, in nats; zero where they are masked or not known."""

    logps: torch.Tensor
    entropies: torch.Tensor

    @classmethod
    def nothing(cls, step: Step) -> Known:
        """Of no row."""
        zeros = torch.zeros(len(step.input_ids), step.completion_length, device=step.input_ids.device)
        return cls(zeros, zeros)

    def and_of(self, found: Sequence[tuple[int, Scored]]) -> Known:
        """Also of some rows; their gradient flows."""
        device = self.logps.device
        rows = torch.tensor([row for row, scored in found for _ in scored.logps], device=device)
        columns = torch.cat([torch.arange(len(scored.logps), device=device) for _, scored in found])
        flat = (torch.cat(values) for values in zip(*(scored for _, scored in found), strict=True))
        return Known(*(whole.index_put((rows, columns), part) for whole, part in zip(self, flat, strict=True)))

    def detached(self) -> Known:
        """Without a graph."""
        return Known(self.logps.detach(), self.entropies.detach())


class _AcceleratorProxy:
    """An accelerator that does as another."""

    def __init__(self, accelerator: Any) -> None:
        self._accelerator = accelerator

    def __getattr__(self, name: str) -> Any:
        return getattr(self._accelerator, name)


class _PaddingAccelerator(_AcceleratorProxy):
    """Of processes that need not have equally many rows: NaN, which TRL's figures leave out, fills up the others."""

    def gather(self, tensor: torch.Tensor) -> torch.Tensor:
        return self._accelerator.gather(self._accelerator.pad_across_processes(tensor, pad_index=math.nan))  # type: ignore[no-any-return]


class _LoneAccelerator(_AcceleratorProxy):
    """One that asks no other process."""

    sync_gradients = False

    def gather(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor

    def reduce(self, tensor: torch.Tensor, reduction: str) -> torch.Tensor:
        return tensor


class BoundedTrainer(GRPOTrainer):  # type: ignore[misc]
    """See the module.

    Args:
        micro_batch_tokens: Most tokens of a pass; None: a group is a pass.
        note: Takes a line when memory has run out.
        arguments: Of TRL's trainer.
    """

    accelerator: Any
    _metrics: dict[str, defaultdict[str, list[float]]]

    def __init__(self, *, micro_batch_tokens: int | None, note: Callable[[str], None], **arguments: Any) -> None:
        super().__init__(**arguments)
        self.shares_prefix = not shared_prefix.why_not(self.model)
        self._is_sharded = is_sharded(self.model)
        # Not as for training, which wraps it to average gradients once a pass: other processes may have fewer.
        self.accelerator.prepare_model(self.model, evaluation_mode=True)
        self._passes = BackOff("tokens of a pass", micro_batch_tokens, note, hint=LESS_MEMORY)

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """The loss of a step, which is passed back; the gradient is the mean over all processes.

        Raises:
            OutOfMemoryError: If a single completion does not fit; with the base in parts, if a pass does not.
        """
        started = time.perf_counter()
        model.train()
        scored = self._prepare_inputs(inputs)
        loss = self._pass_back(model, scored)
        self._step += 1  # by this TRL knows when to draw new completions
        self._metrics["train"]["step_time"].append(time.perf_counter() - started)
        return loss

    def _pass_back(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        def pass_by_pass() -> Known:
            return self._pass_by_pass(model, inputs)

        passes = self._passes
        known = passes.once(pass_by_pass, hint=_SMALLER_PASSES) if self._is_sharded else passes.retried(pass_by_pass)
        average_gradients(model.parameters())
        with torch.no_grad(), self.compute_loss_context_manager(), self._using(_PaddingAccelerator(self.accelerator)):
            # Once more, all rows known: for its value and the log.
            return self._weighted_loss(known, inputs)

    def _pass_by_pass(self, model: Any, inputs: dict[str, Any]) -> Known:
        """What is known of all rows, once the gradient of each pass has been added to the model's."""
        model.zero_grad()  # of a try that ran out of memory
        step = Step(
            torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1),
            torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1),
            inputs["completion_ids"].shape[1],
        )
        known = Known.nothing(step)
        passes = self._cut(step)
        # Known before the first one, which waits for the other processes.
        missing = highest(len(passes)) - len(passes) if self._is_sharded else 0
        for groups in self._one_by_one(passes):
            with self.compute_loss_context_manager():
                known = known.and_of(self._score(model, step, groups))
                with self._alone():
                    loss = self._weighted_loss(known, inputs)
            self.accelerator.backward(loss)
            known = known.detached()
        for _ in range(missing):
            with self.compute_loss_context_manager():
                nothing = pass_along(model)
            self.accelerator.backward(nothing)
        for parameter in model.parameters():
            if parameter.requires_grad and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)  # every completion was cut and is masked
        return known

    def _weighted_loss(self, known: Known, inputs: dict[str, Any]) -> torch.Tensor:
        """The loss of this process, of which the mean over all is that of the step."""
        weight = inputs.get(LOSS_WEIGHT, 1.0)
        loss: torch.Tensor = self.compute_loss(known, inputs) * weight
        if not self.entropy_coef:
            return loss
        # TRL's bonus in it is the mean over the tokens of this process, of which others may have more.
        mask = inputs["completion_mask"]
        entropy = (known.entropies * mask).sum() / mask.sum().clamp(min=1)
        share = mask.sum() * self.accelerator.num_processes / inputs["num_items_in_batch"].clamp(min=1)
        correction: torch.Tensor = self.entropy_coef * (weight - share) * entropy
        return loss + correction

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Computes a loss without a word to the log or to other processes, which may have fewer passes."""
        kept, self._metrics = self._metrics, {"train": defaultdict(list)}
        try:
            with self._using(_LoneAccelerator(self.accelerator)):
                yield
        finally:
            self._metrics = kept

    @contextmanager
    def _using(self, accelerator: _AcceleratorProxy) -> Iterator[None]:
        kept, self.accelerator = self.accelerator, accelerator
        try:
            yield
        finally:
            self.accelerator = kept

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        **options: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None, None]:
        """(B*G, C) log-probabilities, and entropies where asked for; zero where masked.

        Args:
            model: What scores them; or `Known`, what has been scored: TRL's loss asks for it here.
            input_ids: (B*G, P+C).
            attention_mask: (B*G, P+C).
            logits_to_keep: C.
            batch_size: Not used; the passes are our own.
            compute_entropy: Whether to return entropies.
            options: Of models that read more than text.
        """
        if isinstance(model, Known):
            return model.logps, model.entropies, None
        step = Step(input_ids, attention_mask, logits_to_keep)

        def score() -> Known:
            known = Known.nothing(step)
            for groups in self._one_by_one(self._cut(step)):
                with self.accelerator.autocast():
                    known = known.and_of(self._score(model, step, groups))
            return known

        found = self._passes.retried(score)
        return found.logps, found.entropies if compute_entropy else None, None

    def _cut(self, step: Step) -> list[Pass]:
        groups, most = groups_of(*step), self._passes.most
        return packed_passes(groups, most) if self.shares_prefix else row_passes(groups, step.input_ids.shape[1], most)

    def _one_by_one(self, passes: Sequence[Pass]) -> Iterator[list[Group]]:
        for one in passes:
            self._passes.works_on(one.tokens, is_smallest=one.completions == 1)
            yield one.groups

    def _score(self, model: Any, step: Step, groups: Sequence[Group]) -> list[tuple[int, Scored]]:
        """The number of each row of a pass, and the values of its completion."""
        rows = [row for group in groups for row in group.rows]
        if self.shares_prefix:
            scored = shared_prefix.score_groups(
                model,
                [(group.prompt, group.completions) for group in groups],
                self.temperature,
                entropy_gradient=self._entropy_bonus_enabled,
            )
            return list(zip(rows, chain.from_iterable(scored), strict=True))
        lengths = [len(completion) for group in groups for completion in group.completions]
        logps, entropies, _ = super()._get_per_token_logps_and_entropies(
            model, step.input_ids[rows], step.attention_mask[rows], step.completion_length, compute_entropy=True
        )
        return [
            (row, Scored(logp[:length], entropy[:length]))
            for row, logp, entropy, length in zip(rows, logps, entropies, lengths, strict=True)
        ]
