"""TRL's trainer as GRPO over retrieved profiles needs it; `grpo` says how that differs from PrLM's.

The prompts of a step are sampled from at once, again in smaller parts where memory runs out, and only once where TRL
asks for what was drawn to replace groups without variance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from trl.models import unwrap_model_for_generation
from trl.trainer.utils import nanstd

from prlm_cli.models.adapters import train_in_fp32
from prlm_cli.models.quiet import quiet_libraries
from prlm_cli.models.sharding import whole
from prlm_cli.training import shared_prefix
from prlm_cli.training.back_off import BackOff
from prlm_cli.training.bounded_trainer import LESS_MEMORY, LOSS_WEIGHT, BoundedTrainer
from prlm_cli.training.callbacks import Diverged, NotFinite
from prlm_cli.training.dynamic_sampling import Drawn, Resampling, of_rows, varies
from prlm_cli.training.reward_normalization import RewardNormalization
from prlm_cli.training.row_sampling import RowSampling, uniforms


class PolicyTrainer(BoundedTrainer):
    """The trainer with prompts as token ids and normalised rewards.

    Args:
        prompt_ids: Query id -> its prompt.
        stop_ids: Tokens that end a completion.
        normalization: Of the rewards.
        skips: Whether groups without variance are left out.
        resampling: Draws others in their place; None draws none.
        draws_by_row: Whether each rollout has random numbers of its own.
        measures: Name -> what is logged of the completions beside the rewards, and does not train.
        note: Takes a line when memory has run out.
        arguments: Of the trainer below.
    """

    def __init__(
        self,
        *,
        prompt_ids: Mapping[str, list[int]],
        stop_ids: Sequence[int],
        normalization: RewardNormalization,
        note: Callable[[str], None],
        skips: bool = False,
        resampling: Resampling | None = None,
        draws_by_row: bool = False,
        measures: Mapping[str, Callable[..., list[float | None]]] = MappingProxyType({}),
        **arguments: Any,
    ) -> None:
        super().__init__(note=note, **arguments)
        self._rollouts = BackOff("rollouts at once", None, note, hint=LESS_MEMORY)
        self._prompt_ids = prompt_ids
        self._measures = measures
        self._normalization = normalization
        self._raw_rewards = torch.empty(0)
        self._skips = skips
        self._resampling = resampling
        self._drawn: Drawn | None = None  # what the step's rollouts are, where they were drawn before TRL asks for them
        self.eos_token_ids = list(stop_ids)
        self._draws_by_row = draws_by_row
        if not self.use_vllm:
            self.generation_config.eos_token_id = list(stop_ids)
        train_in_fp32(self.model)

    def _tokenize_prompts(self, prompts: list[str]) -> tuple[list[list[int]], None, dict[str, Any]]:
        return [self._prompt_ids[query_id] for query_id in prompts], None, {}

    def _generate_single_turn(
        self, prompt_ids: list[list[int]], images: Any, multimodal_fields: Any, num_generations: int, **options: Any
    ) -> tuple[list[list[int]], Any]:
        if self._drawn:
            return self._drawn.completion_ids, None
        stock = super()._generate_single_turn
        if self.use_vllm:  # which sees to its memory
            found: tuple[list[list[int]], Any] = stock(
                prompt_ids, images, multimodal_fields, num_generations, **options
            )
            return found
        first = self.accelerator.process_index * self.args.per_device_train_batch_size
        return self._sampled(prompt_ids, num_generations, first), None

    def _sampled(
        self, prompt_ids: list[list[int]], num_generations: int, first: int, number: int = 0
    ) -> list[list[int]]:
        """A completion of each prompt, as a `Draw` of that place and number samples them."""
        stock = super()._generate_single_turn
        # Before all tries, which draw the same by them.
        numbers = self._random_numbers(number, range(first, first + len(prompt_ids))) if self._draws_by_row else None

        def generate() -> list[list[int]]:
            completions: list[list[int]] = []
            for rows in _rollouts_at_once(prompt_ids, num_generations, self._rollouts.most):
                self._rollouts.works_on(len(rows), is_smallest=len(rows) == 1)
                group = min(len(rows), num_generations)
                if self.shares_prefix:
                    done = len(completions)
                    own = None if numbers is None else numbers[done : done + len(rows)]
                    completions += self._draw_sharing_prompts(rows, group, own)
                else:
                    completions += stock(rows, None, {}, group)[0]
            return completions

        return self._rollouts.retried(generate)

    def _random_numbers(self, number: int, rows: range) -> torch.Tensor:
        """(R, C) random numbers of rollouts, each row by the draw and its place among those of all processes."""
        keys = [f"{self.args.seed}:{self.state.global_step}:{number}:{row}" for row in rows]
        return uniforms(keys, self.max_completion_length)

    def _draw_sharing_prompts(
        self, prompt_ids: list[list[int]], group: int, numbers: torch.Tensor | None
    ) -> list[list[int]]:
        draw: shared_prefix.Draw = (
            shared_prefix.StreamSampling(self.temperature, len(prompt_ids))
            if numbers is None
            else RowSampling(self.temperature, numbers)
        )
        with (
            unwrap_model_for_generation(
                self.model_wrapped,
                self.accelerator,
                generation_kwargs=self.generation_kwargs,
                gradient_checkpointing_kwargs=self.args.gradient_checkpointing_kwargs,
            ) as model,
            quiet_libraries(),
        ):
            return shared_prefix.rollouts(
                model,
                prompt_ids[::group],
                group,
                draw=draw,
                max_new_tokens=self.max_completion_length,
                stop_ids=self.eos_token_ids,
            )

    def _calculate_rewards(self, inputs: Any, prompts: list[str], completions: list[str], ids: Any) -> torch.Tensor:
        """(B*G, R) normalised rewards of all processes; NaN where a reward does not apply."""
        drawn = self._drawn
        asked = (inputs, prompts, completions, ids)
        self._raw_rewards = self.accelerator.gather(drawn.rewards) if drawn else super()._calculate_rewards(*asked)
        self._log_measures(prompts, completions)
        is_unscored = self._raw_rewards.isnan().all(dim=1)
        self._log("completions/unscored", float(is_unscored.float().mean()))
        if is_unscored.all():
            raise Diverged("no reward scored any completion of a step", hint="add a reward that applies to all queries")
        return self._normalization(self._raw_rewards)

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        try:
            with whole(self.model):  # processes need not decode equally long, nor score in equally many passes
                if self._resampling:
                    inputs = self._resampled(inputs)
                scored = super()._generate_and_score_completions(inputs)
        except RuntimeError as error:
            if "probability tensor" not in str(error):  # torch's words when it is to sample from NaN or infinity
                raise
            raise NotFinite("a score of the policy", self.state.global_step + 1) from error
        self._drawn = None
        self._log_raw_rewards(self._raw_rewards)
        return self._without_ties(scored) if self._skips else scored

    def _resampled(self, inputs: Any) -> Any:
        """The rows of a step with the prompts that it has once others were drawn for those without variance."""
        assert self._resampling
        asked = [row["prompt"] for row in inputs]
        self._drawn, tried = self._resampling(asked, self.state.global_step, self._draw)
        self._count("zero_variance/resampled", tried)
        return [{**row, "prompt": prompt} for row, prompt in zip(inputs, self._drawn.prompts, strict=True)]

    def _draw(self, prompts: list[str], first: int, number: int) -> Drawn:
        """Completions of the prompts, G of each together, with what the reward functions say."""
        prompt_ids = [self._prompt_ids[query_id] for query_id in prompts]
        completion_ids = self._sampled(prompt_ids, self.num_generations, first, number)
        completions = self.processing_class.batch_decode(completion_ids, skip_special_tokens=True)
        values = [reward(prompts=prompts, completions=completions) for reward in self.reward_funcs]
        rewards = [[math.nan if value is None else value for value in row] for row in zip(*values, strict=True)]
        return Drawn(prompts, completion_ids, torch.tensor(rewards, device=self.accelerator.device))

    def _without_ties(self, scored: dict[str, Any]) -> dict[str, Any]:
        """The scored rollouts of this process without its groups whose rewards do not vary."""
        own = self.accelerator.process_index * len(scored["completion_ids"])
        rewards = self._raw_rewards[own : own + len(scored["completion_ids"])]
        kept = varies(rewards, self.num_generations)
        self._count("zero_variance/skipped", int((~kept).sum()))
        scored = of_rows(scored, kept.repeat_interleave(self.num_generations))
        counts = torch.stack([scored["completion_mask"].sum(), kept.sum()])[None]
        tokens, groups = self.accelerator.gather(counts).sum(dim=0)  # of all processes
        # The loss of dapo is divided by all tokens, any other by the rows of the process.
        share = kept.sum() / groups.clamp(min=1)
        weight = torch.ones_like(share) if self.loss_type == "dapo" else share * self.accelerator.num_processes
        return scored | {"num_items_in_batch": tokens, LOSS_WEIGHT: weight}

    def _count(self, name: str, number: int) -> None:
        """Logs a number of this step, over all processes."""
        total = self.accelerator.gather(torch.tensor([number], device=self.accelerator.device)).sum()
        self._log(name, float(total))

    def _log(self, name: str, value: float) -> None:
        """Logs a figure of this step that all processes know."""
        self._metrics["train" if self.model.training else "eval"][name].append(value)

    def _log_measures(self, prompts: list[str], completions: list[str]) -> None:
        for name, measure in self._measures.items():
            for value in measure(prompts=prompts, completions=completions):
                if value is not None:
                    self._log_metric(f"completions/{name}", value)  # TRL takes the mean over all processes

    def _log_raw_rewards(self, rewards: torch.Tensor) -> None:
        """Puts into the log what (B*G, R) rewards were before they were normalised: means of 0 would tell nothing."""
        weighted = (rewards * self.reward_weights.to(rewards)).nansum(dim=1)
        weighted[rewards.isnan().all(dim=1)] = torch.nan
        figures = {"reward": weighted.nanmean(), "reward_std": nanstd(weighted)}
        for name, values in zip(self.reward_func_names, rewards.T, strict=True):
            figures |= {f"rewards/{name}/mean": values.nanmean(), f"rewards/{name}/std": nanstd(values)}
        for name, value in figures.items():
            self._metrics["train" if self.model.training else "eval"][name][-1] = value.item()


def _rollouts_at_once(prompts: list[list[int]], group: int, most: int | None) -> Iterator[list[list[int]]]:
    """The prompts of a step, each of which comes as often as a group has rollouts, in whole groups or parts of one."""
    if most is None or most >= group:
        size = len(prompts) if most is None else most - most % group
        yield from (prompts[n : n + size] for n in range(0, len(prompts), size))
        return
    for start in range(0, len(prompts), group):
        yield from (prompts[n : min(n + most, start + group)] for n in range(start, start + group, most))
