"""GRPO through TRL's trainer.

Source: Shao et al., DeepSeekMath (arXiv 2402.03300), as in PrLM (arXiv 2508.07342); the loss is TRL's. It differs from
PrLM's released training in this:

1. Prompts are built and bounded by our builder and handed over as token ids; TRL knows them by the query's id only.
2. The prompt of a group is computed once (`shared_prefix`), with the same values as stock TRL's separate rows, and a
   step in passes of bounded memory (`bounded_trainer`), with the same gradient.
3. The order of the queries is written down for all steps before training, so a resumed run sees the same.
4. Adapters of a 4-bit model train in fp32.
5. A reward must be finite; a batch that no reward function scores is an error.
6. Each reward may be put on a scale of its own before it is weighed (`reward_normalization`); the log says what it was.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import TrainerCallback
from trl import GRPOConfig
from trl.models import unwrap_model_for_generation
from trl.trainer.utils import nanstd

from prlm_cli.core.errors import SettingsError
from prlm_cli.core.records import Retrieved
from prlm_cli.core.settings import PolicySettings
from prlm_cli.models.adapters import train_in_fp32
from prlm_cli.models.loading import is_quantised
from prlm_cli.models.quiet import quiet_libraries
from prlm_cli.rewards import Reward
from prlm_cli.training import shared_prefix
from prlm_cli.training.arguments import common_arguments
from prlm_cli.training.back_off import BackOff
from prlm_cli.training.bounded_trainer import LESS_MEMORY, BoundedTrainer
from prlm_cli.training.callbacks import Diverged, StopOnSignal
from prlm_cli.training.checkpoints import SealCheckpoints, newest_complete
from prlm_cli.training.order import query_order
from prlm_cli.training.reward_normalization import KeepNormalization, RewardNormalization
from prlm_cli.training.supervised import remove_printer


class Rollout(NamedTuple):
    """What a reward sees of the training set: the prompt's ids and the query with its records."""

    prompt_ids: list[int]
    query: Retrieved


class PolicyTrainer(BoundedTrainer):
    """The trainer with prompts as token ids and normalised rewards.

    Args:
        prompt_ids: Query id -> its prompt.
        stop_ids: Tokens that end a completion.
        normalization: Of the rewards.
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
        **arguments: Any,
    ) -> None:
        super().__init__(note=note, **arguments)
        self._rollouts = BackOff("rollouts at once", None, note, hint=LESS_MEMORY)
        self._prompt_ids = prompt_ids
        self._normalization = normalization
        self._raw_rewards = torch.empty(0)
        self.eos_token_ids = list(stop_ids)
        self.generation_config.eos_token_id = list(stop_ids)
        train_in_fp32(self.model)

    def _tokenize_prompts(self, prompts: list[str]) -> tuple[list[list[int]], None, dict[str, Any]]:
        return [self._prompt_ids[query_id] for query_id in prompts], None, {}

    def _generate_single_turn(
        self, prompt_ids: list[list[int]], images: Any, multimodal_fields: Any, num_generations: int, **options: Any
    ) -> tuple[list[list[int]], None]:
        draw = self._draw_sharing_prompts if self.shares_prefix else super()._generate_single_turn

        def generate() -> list[list[int]]:
            completions: list[list[int]] = []
            for rows in _rollouts_at_once(prompt_ids, num_generations, self._rollouts.most):
                self._rollouts.works_on(len(rows), is_smallest=len(rows) == 1)
                completions += draw(rows, images, multimodal_fields, min(len(rows), num_generations), **options)[0]
            return completions

        return self._rollouts.retried(generate), None

    def _draw_sharing_prompts(
        self, prompt_ids: list[list[int]], images: Any, multimodal_fields: Any, num_generations: int, **options: Any
    ) -> tuple[list[list[int]], None]:
        with (
            unwrap_model_for_generation(
                self.model_wrapped,
                self.accelerator,
                generation_kwargs=self.generation_kwargs,
                gradient_checkpointing_kwargs=self.args.gradient_checkpointing_kwargs,
            ) as model,
            quiet_libraries(),
        ):
            rows = shared_prefix.rollouts(
                model,
                prompt_ids[::num_generations],
                num_generations,
                pad_id=self.processing_class.pad_token_id,
                generation_config=self.generation_config,
            )
        return [self._until_end(row) for row in rows.tolist()], None

    def _until_end(self, ids: list[int]) -> list[int]:
        end = next((n for n, token in enumerate(ids) if token in self.eos_token_ids), len(ids) - 1)
        return ids[: end + 1]

    def _calculate_rewards(self, *given: Any) -> torch.Tensor:
        """(B*G, R) normalised rewards of all processes; NaN where a reward does not apply."""
        self._raw_rewards = super()._calculate_rewards(*given)
        if self._raw_rewards.isnan().all():
            raise Diverged("no reward scored any completion of a step", hint="add a reward that applies to all queries")
        return self._normalization(self._raw_rewards)

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        scored = super()._generate_and_score_completions(inputs)
        self._log_raw_rewards(self._raw_rewards)
        return scored

    def _log_raw_rewards(self, rewards: torch.Tensor) -> None:
        """Puts into the log what (B*G, R) rewards were before they were normalised: means of 0 would tell nothing."""
        weighted = (rewards * self.reward_weights.to(rewards)).nansum(dim=1)
        weighted[rewards.isnan().all(dim=1)] = torch.nan
        figures = {"reward": weighted.nanmean(), "reward_std": nanstd(weighted)}
        for name, values in zip(self.reward_func_names, rewards.T, strict=True):
            figures |= {f"rewards/{name}/mean": values.nanmean(), f"rewards/{name}/std": nanstd(values)}
        for name, value in figures.items():
            self._metrics["train" if self.model.training else "eval"][name][-1] = value.item()


def train_grpo(
    model: Any,
    tokenizer: Any,
    rollouts: Sequence[Rollout],
    rewards: Mapping[str, tuple[Reward, float]],
    settings: PolicySettings,
    *,
    stop_ids: Sequence[int],
    max_new_tokens: int,
    seed: int,
    checkpoints: Path,
    callbacks: Sequence[TrainerCallback],
    note: Callable[[str], None],
) -> int:
    """Trains the model's adapter with GRPO; goes on from the newest complete checkpoint.

    Args:
        model: With a trainable adapter; changed in place.
        tokenizer: The policy's.
        rollouts: Prompts and their queries.
        rewards: Name -> reward and its weight.
        settings: Of GRPO.
        stop_ids: Tokens that end a completion.
        max_new_tokens: Longest completion.
        seed: Of the order and the sampling.
        checkpoints: Folder for checkpoints.
        callbacks: Progress, log and held-out evaluation.
        note: Takes a line when memory has run out and less is done at once.

    Returns:
        The step it went on from; 0 for a fresh start.

    Raises:
        SettingsError: If there are fewer queries than one step takes.
        Diverged: If a reward, the loss or the gradient is not finite, or nothing scores a batch.
        OutOfMemoryError: If a single completion does not fit.
    """
    by_id = {rollout.query.query_id: rollout for rollout in rollouts}
    if len(by_id) < settings.prompts_per_step:
        # TRL would drop the incomplete batch and end after 0 steps without an error.
        raise SettingsError(
            f"{len(by_id)} training queries, but a step takes {settings.prompts_per_step}",
            hint="lower policy.prompts_per_step or index more queries",
        )
    scales = [settings.normalise.get(name, "none") for name in rewards]
    normalization = RewardNormalization(scales, settings.num_generations)
    order = query_order(list(by_id), settings.steps * settings.prompts_per_step, seed)
    weights = [weight for _, weight in rewards.values()]
    stop = StopOnSignal()
    with quiet_libraries(), stop:
        from datasets import Dataset

        trainer = PolicyTrainer(
            prompt_ids={query_id: rollout.prompt_ids for query_id, rollout in by_id.items()},
            stop_ids=stop_ids,
            normalization=normalization,
            micro_batch_tokens=settings.micro_batch_tokens,
            note=note,
            model=model,
            args=_arguments(settings, max_new_tokens, seed, checkpoints, weights, quantised=is_quantised(model)),
            train_dataset=Dataset.from_dict({"prompt": order}),
            processing_class=tokenizer,
            reward_funcs=[_for_trl(name, reward, by_id) for name, (reward, _) in rewards.items()],
            callbacks=[KeepNormalization(normalization), SealCheckpoints(), stop, *callbacks],
        )
        remove_printer(trainer)
        resume = newest_complete(checkpoints)
        if resume:
            normalization.load(resume)
        trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    return int(resume.name.rpartition("-")[2]) if resume else 0


def _arguments(
    settings: PolicySettings,
    max_new_tokens: int,
    seed: int,
    checkpoints: Path,
    weights: list[float],
    *,
    quantised: bool = False,
) -> GRPOConfig:
    return GRPOConfig(
        **common_arguments(
            checkpoints,
            steps=settings.steps,
            learning_rate=settings.learning_rate,
            seed=seed,
            gradient_checkpointing=settings.gradient_checkpointing,
            quantised=quantised,
        ),
        per_device_train_batch_size=settings.prompts_per_step * settings.num_generations,
        gradient_accumulation_steps=1,  # the trainer cuts the step by itself
        num_generations=settings.num_generations,
        max_completion_length=max_new_tokens,
        temperature=settings.temperature,
        top_p=1.0,
        top_k=0,
        beta=settings.beta,
        epsilon=settings.epsilon,
        epsilon_high=settings.epsilon_high,
        loss_type=settings.loss_type,
        scale_rewards=settings.scale_rewards,
        max_grad_norm=settings.max_grad_norm,
        mask_truncated_completions=True,
        reward_weights=weights,
        shuffle_dataset=False,
        save_steps=settings.save_steps,
        log_completions=False,  # would write users' text
        warmup_steps=min(2, settings.steps // 4),
    )


def _for_trl(name: str, reward: Reward, by_id: Mapping[str, Rollout]) -> Callable[..., list[float | None]]:
    def scored(*, prompts: list[str], completions: list[str], **_: Any) -> list[float | None]:
        values = reward(completions=completions, queries=[by_id[query_id].query for query_id in prompts])
        bad = [q for q, value in zip(prompts, values, strict=True) if value is not None and not math.isfinite(value)]
        if bad:
            raise Diverged(f"reward '{name}' is not finite for query {bad[0]}", hint="check the reward")
        return values

    scored.__name__ = name  # TRL logs each reward under the name of its function
    return scored


def _rollouts_at_once(prompts: list[list[int]], group: int, most: int | None) -> Iterator[list[list[int]]]:
    """The prompts of a step, each of which comes as often as a group has rollouts, in whole groups or parts of one."""
    if most is None or most >= group:
        size = len(prompts) if most is None else most - most % group
        yield from (prompts[n : n + size] for n in range(0, len(prompts), size))
        return
    for start in range(0, len(prompts), group):
        yield from (prompts[n : min(n + most, start + group)] for n in range(start, start + group, most))
