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
7. Groups without variance may be left out, or others drawn in their place (`dynamic_sampling`).
8. The KL term is k3, as published; TRL would multiply it by the ratio.
9. A prompt may be another one each time that its query comes, as with noisy profiles.
10. Each rollout may have random numbers of its own (`row_sampling`): any number of processes then draws the same.

`gspo` is Zheng et al. (arXiv 2507.18071) as TRL has it: the ratio of a whole completion, in the loss of `grpo`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from transformers import TrainerCallback
from trl import GRPOConfig

from prlm_cli.core import ranks
from prlm_cli.core.errors import SettingsError
from prlm_cli.core.records import Retrieved
from prlm_cli.core.reporting import Silent
from prlm_cli.core.settings import PolicySettings
from prlm_cli.models.loading import is_in_bf16, is_quantised
from prlm_cli.models.quiet import quiet_libraries
from prlm_cli.rewards import Reward
from prlm_cli.training import shared_prefix
from prlm_cli.training.arguments import common_arguments, keep_to_one_gpu
from prlm_cli.training.callbacks import Diverged, StopOnSignal, StopTogether
from prlm_cli.training.checkpoints import SealCheckpoints, train_on
from prlm_cli.training.dynamic_sampling import Resampling
from prlm_cli.training.order import check_enough, passes, query_order
from prlm_cli.training.policy_trainer import PolicyTrainer
from prlm_cli.training.reward_normalization import KeepNormalization, RewardNormalization
from prlm_cli.training.supervised import remove_printer
from prlm_cli.training.vllm import vllm_options


class Rollout(NamedTuple):
    """What a reward sees of the training set: the prompt's ids and the query with its records."""

    prompt_ids: list[int]
    query: Retrieved


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
    note: Callable[[str], None] | None = None,
    vary: Callable[[Rollout, int], Rollout] | None = None,
    measures: Mapping[str, Reward] = MappingProxyType({}),
    taken: int = 0,
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
        vary: Gives the rollout that is trained on the n-th time, from 0, that a query comes.
        note: Takes a line when memory has run out and less is done at once.
        measures: Name -> what is logged of the completions, as `completions/NAME`, and does not train.
        taken: How many queries of the order the policy was trained on before: those that are left come first.

    Returns:
        The step it went on from; 0 for a fresh start.

    Raises:
        SettingsError: If there are fewer queries than one step takes.
        Diverged: If a reward is not finite, or nothing scores a batch.
        NotFinite: If the loss, the gradient or the policy's scores are not finite.
        OutOfMemoryError: If a single completion does not fit.
        StorageError: If a checkpoint cannot be written.
    """
    by_id = {rollout.query.query_id: rollout for rollout in rollouts}
    check_enough(len(by_id), settings.prompts_per_step)
    scales = [settings.normalise.get(name, "none") for name in rewards]
    normalization = RewardNormalization(scales, settings.num_generations)
    order = query_order(list(by_id), taken + settings.steps * settings.prompts_per_step, seed)[taken:]
    if vary:  # each time has a name of its own
        by_id = {f"{query_id}#{n}": vary(by_id[query_id], n) for query_id, n in passes(order)}
        order = list(by_id)
    resampling = Resampling(by_id, settings.num_generations, settings.resample_rounds, seed)
    weights = [weight for _, weight in rewards.values()]
    max_tokens = max_new_tokens + max(len(rollout.prompt_ids) for rollout in by_id.values())
    stop = StopOnSignal(settings.num_iterations)
    with quiet_libraries(), stop:
        from datasets import Dataset

        trainer = PolicyTrainer(
            prompt_ids={query_id: rollout.prompt_ids for query_id, rollout in by_id.items()},
            stop_ids=stop_ids,
            normalization=normalization,
            micro_batch_tokens=settings.micro_batch_tokens,
            note=note or Silent().note,
            skips=settings.zero_variance != "keep",
            resampling=resampling if settings.zero_variance == "resample" else None,
            draws_by_row=_draws_by_row(settings, model),
            measures={name: _for_trl(name, measure, by_id) for name, measure in measures.items()},
            model=model,
            args=_arguments(
                settings,
                max_new_tokens,
                seed,
                checkpoints,
                weights,
                quantised=is_quantised(model),
                bf16=is_in_bf16(model),
                **vllm_options(settings, max_tokens=max_tokens, stop_ids=stop_ids),
            ),
            train_dataset=Dataset.from_dict({"prompt": order}),
            processing_class=tokenizer,
            reward_funcs=[_for_trl(name, reward, by_id) for name, (reward, _) in rewards.items()],
            callbacks=[KeepNormalization(normalization), SealCheckpoints(), stop, *callbacks, StopTogether()],
        )
        remove_printer(trainer)
        return train_on(trainer)


def _arguments(
    settings: PolicySettings,
    max_new_tokens: int,
    seed: int,
    checkpoints: Path,
    weights: list[float],
    *,
    quantised: bool = False,
    bf16: bool = False,
    **more: Any,
) -> GRPOConfig:
    arguments = GRPOConfig(
        **common_arguments(
            checkpoints,
            steps=settings.steps,
            learning_rate=settings.learning_rate,
            seed=seed,
            gradient_checkpointing=settings.gradient_checkpointing,
            quantised=quantised,
            bf16=bf16,
        ),
        per_device_train_batch_size=settings.prompts_per_step * settings.num_generations // ranks.world_size(),
        gradient_accumulation_steps=1,  # the trainer cuts the step by itself
        num_generations=settings.num_generations,
        max_completion_length=max_new_tokens,
        temperature=settings.temperature,
        top_p=1.0,
        top_k=0,
        beta=settings.beta,
        epsilon=settings.epsilon,
        epsilon_high=settings.epsilon_high,
        loss_type="grpo" if settings.loss_type == "gspo" else settings.loss_type,
        importance_sampling_level="sequence" if settings.loss_type == "gspo" else "token",
        num_iterations=settings.num_iterations,
        use_bias_correction_kl=False,
        entropy_coef=settings.entropy_coef,
        scale_rewards=settings.scale_rewards,
        max_grad_norm=settings.max_grad_norm,
        mask_truncated_completions=True,
        reward_weights=weights,
        shuffle_dataset=False,
        save_steps=settings.save_steps,
        log_completions=False,  # would write users' text
        warmup_steps=min(2, settings.steps // 4),
        **more,
    )
    keep_to_one_gpu(arguments)
    return arguments


def _draws_by_row(settings: PolicySettings, model: Any) -> bool:
    if settings.sampling == "stream" or (settings.sampling == "auto" and ranks.world_size() == 1):
        return False
    reason = "vLLM draws by itself" if settings.rollouts == "vllm" else shared_prefix.why_not(model)
    if reason and settings.sampling == "rows":
        raise SettingsError(f"policy.sampling=rows cannot be: {reason}", hint="use auto")
    return not reason


def _for_trl(name: str, reward: Reward, by_id: Mapping[str, Rollout]) -> Callable[..., list[float | None]]:
    def scored(*, prompts: list[str], completions: list[str], **_: Any) -> list[float | None]:
        values = reward(completions=completions, queries=[by_id[query_id].query for query_id in prompts])
        bad = [q for q, value in zip(prompts, values, strict=True) if value is not None and not math.isfinite(value)]
        if bad:
            query_id = by_id[bad[0]].query.query_id
            raise Diverged(f"reward '{name}' is not finite for query {query_id}", hint="check the reward")
        return values

    scored.__name__ = name  # TRL logs each reward under the name of its function
    return scored
