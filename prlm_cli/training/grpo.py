"""GRPO through TRL's trainer.

Source: Shao et al., DeepSeekMath (arXiv 2402.03300), as in PrLM (arXiv 2508.07342); the loss is TRL's. It differs from
PrLM's released training in this:

1. Prompts are built and bounded by our builder and handed over as token ids; TRL knows them by the query's id only.
2. The prompt of a group is computed once (`shared_prefix`), with the same values as stock TRL's separate rows.
3. The order of the queries is written down for all steps before training, so a resumed run sees the same.
4. Adapters of a 4-bit model train in fp32.
5. A reward must be finite; a batch that no reward function scores is an error.
6. Each reward may be put on a scale of its own before it is weighed (`reward_normalization`); the log says what it was.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import TrainerCallback
from trl import GRPOConfig, GRPOTrainer
from trl.models import unwrap_model_for_generation
from trl.trainer.utils import nanstd

from prlm_cli.core.errors import SettingsError
from prlm_cli.core.records import Retrieved
from prlm_cli.core.settings import PolicySettings
from prlm_cli.models.adapters import train_in_fp32
from prlm_cli.models.quiet import quiet_libraries
from prlm_cli.rewards import Reward
from prlm_cli.training import shared_prefix
from prlm_cli.training.arguments import common_arguments
from prlm_cli.training.callbacks import Diverged, StopOnSignal
from prlm_cli.training.checkpoints import SealCheckpoints, newest_complete
from prlm_cli.training.order import query_order
from prlm_cli.training.reward_normalization import KeepNormalization, RewardNormalization
from prlm_cli.training.supervised import remove_printer


class Rollout(NamedTuple):
    """What a reward sees of the training set: the prompt's ids and the query with its records."""

    prompt_ids: list[int]
    query: Retrieved


class PolicyTrainer(GRPOTrainer):  # type: ignore[misc]
    """TRL's trainer with prompts as token ids and the prompt of a group computed once.

    Args:
        prompt_ids: Query id -> its prompt.
        stop_ids: Tokens that end a completion.
        normalization: Of the rewards.
        arguments: Of TRL's trainer.
    """

    def __init__(
        self,
        *,
        prompt_ids: Mapping[str, list[int]],
        stop_ids: Sequence[int],
        normalization: RewardNormalization,
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        self._prompt_ids = prompt_ids
        self._normalization = normalization
        self._raw_rewards = torch.empty(0)
        self.eos_token_ids = list(stop_ids)
        self.generation_config.eos_token_id = list(stop_ids)
        self.shares_prefix = not shared_prefix.why_not(self.model)
        train_in_fp32(self.model)

    def _tokenize_prompts(self, prompts: list[str]) -> tuple[list[list[int]], None, dict[str, Any]]:
        return [self._prompt_ids[query_id] for query_id in prompts], None, {}

    def _generate_single_turn(
        self, prompt_ids: list[list[int]], images: Any, multimodal_fields: Any, num_generations: int, **options: Any
    ) -> tuple[list[list[int]], None]:
        if not self.shares_prefix:
            found: tuple[list[list[int]], None] = super()._generate_single_turn(
                prompt_ids, images, multimodal_fields, num_generations, **options
            )
            return found
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
                draw=shared_prefix.StreamSampling(self.temperature, len(prompt_ids)),
                max_new_tokens=self.max_completion_length,
                stop_ids=self.eos_token_ids,
            )
        return rows, None

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

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        **options: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        """(B*G, C) log-probabilities, and entropies where asked for; zero where masked."""
        if not self.shares_prefix:
            scored: tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None] = (
                super()._get_per_token_logps_and_entropies(
                    model, input_ids, attention_mask, logits_to_keep, batch_size, compute_entropy, **options
                )
            )
            return scored
        logps = torch.zeros(len(input_ids), logits_to_keep, device=input_ids.device)  # (B*G, C)
        entropies = torch.zeros_like(logps)
        with self.accelerator.autocast():
            for rows, prompt, completions in _groups(input_ids, attention_mask, logits_to_keep):
                group = shared_prefix.score_group(model, prompt, completions, self.temperature)
                for row, found in zip(rows, group, strict=True):
                    at = torch.arange(len(found.logps), device=logps.device)
                    logps = logps.index_put((torch.full_like(at, row), at), found.logps)
                    entropies[row, : len(at)] = found.entropies
        if not logps.requires_grad and torch.is_grad_enabled():
            # Every completion was cut and masked: the step has no gradient, but the trainer needs one to pass back.
            logps = logps + 0.0 * sum(p.sum() for p in model.parameters() if p.requires_grad)
        return logps, entropies if compute_entropy else None, None


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

    Returns:
        The step it went on from; 0 for a fresh start.

    Raises:
        SettingsError: If there are fewer queries than one step takes, or the batch sizes do not divide.
        Diverged: If a reward, the loss or the gradient is not finite, or nothing scores a batch.
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
    stop = StopOnSignal()
    with quiet_libraries(), stop:
        from datasets import Dataset

        trainer = PolicyTrainer(
            prompt_ids={query_id: rollout.prompt_ids for query_id, rollout in by_id.items()},
            stop_ids=stop_ids,
            normalization=normalization,
            model=model,
            args=_arguments(settings, max_new_tokens, seed, checkpoints, [weight for _, weight in rewards.values()]),
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
    settings: PolicySettings, max_new_tokens: int, seed: int, checkpoints: Path, weights: list[float]
) -> GRPOConfig:
    completions = settings.prompts_per_step * settings.num_generations
    micro_batch = settings.micro_batch or completions
    if completions % micro_batch:
        raise SettingsError(
            f"policy.micro_batch={micro_batch} does not divide the {completions} completions of a step",
            hint=f"use a divisor of {completions}",
        )
    return GRPOConfig(
        **common_arguments(
            checkpoints,
            steps=settings.steps,
            learning_rate=settings.learning_rate,
            seed=seed,
            gradient_checkpointing=settings.gradient_checkpointing,
        ),
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=completions // micro_batch,
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


def _groups(
    input_ids: torch.Tensor, attention_mask: torch.Tensor, completion_length: int
) -> list[tuple[list[int], list[int], list[list[int]]]]:
    """Rows with the same prompt together: their numbers, the prompt, and their completions without padding."""
    groups: dict[tuple[int, ...], tuple[list[int], list[list[int]]]] = {}
    for row, (ids, mask) in enumerate(zip(input_ids.tolist(), attention_mask.tolist(), strict=True)):
        kept = [token for token, m in zip(ids[:-completion_length], mask[:-completion_length], strict=True) if m]
        completion = [token for token, m in zip(ids[-completion_length:], mask[-completion_length:], strict=True) if m]
        if completion:
            rows, completions = groups.setdefault(tuple(kept), ([], []))
            rows.append(row)
            completions.append(completion)
    return [(rows, list(prompt), completions) for prompt, (rows, completions) in groups.items()]
