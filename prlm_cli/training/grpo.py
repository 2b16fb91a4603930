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

`gspo` is Zheng et al. (arXiv 2507.18071) as TRL has it: the ratio of a whole completion, in the loss of `grpo`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from transformers import TrainerCallback
from trl import GRPOConfig
from trl.models import unwrap_model_for_generation
from trl.trainer.utils import nanstd

from prlm_cli.core.records import Retrieved
from prlm_cli.core.reporting import Silent
from prlm_cli.core.settings import PolicySettings
from prlm_cli.models.adapters import train_in_fp32
from prlm_cli.models.loading import is_quantised
from prlm_cli.models.quiet import quiet_libraries
from prlm_cli.rewards import Reward
from prlm_cli.training import shared_prefix
from prlm_cli.training.arguments import common_arguments
from prlm_cli.training.back_off import BackOff
from prlm_cli.training.bounded_trainer import LESS_MEMORY, BoundedTrainer
from prlm_cli.training.callbacks import Diverged, NotFinite, StopOnSignal
from prlm_cli.training.checkpoints import SealCheckpoints, train_on
from prlm_cli.training.dynamic_sampling import Drawn, Resampling, of_rows, varies
from prlm_cli.training.order import check_enough, passes, query_order
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
        skips: Whether groups without variance are left out.
        resampling: Draws others in their place; None draws none.
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
        self.generation_config.eos_token_id = list(stop_ids)
        train_in_fp32(self.model)

    def _tokenize_prompts(self, prompts: list[str]) -> tuple[list[list[int]], None, dict[str, Any]]:
        return [self._prompt_ids[query_id] for query_id in prompts], None, {}

    def _generate_single_turn(
        self, prompt_ids: list[list[int]], images: Any, multimodal_fields: Any, num_generations: int, **options: Any
    ) -> tuple[list[list[int]], None]:
        if self._drawn:
            return self._drawn.completion_ids, None
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
                draw=shared_prefix.StreamSampling(self.temperature, len(prompt_ids)),
                max_new_tokens=self.max_completion_length,
                stop_ids=self.eos_token_ids,
            )
        return rows, None

    def _calculate_rewards(self, inputs: Any, prompts: list[str], completions: list[str], ids: Any) -> torch.Tensor:
        """(B*G, R) normalised rewards of all processes; NaN where a reward does not apply."""
        drawn = self._drawn
        asked = (inputs, prompts, completions, ids)
        self._raw_rewards = self.accelerator.gather(drawn.rewards) if drawn else super()._calculate_rewards(*asked)
        self._log_measures(prompts, completions)
        if self._raw_rewards.isnan().all():
            raise Diverged("no reward scored any completion of a step", hint="add a reward that applies to all queries")
        return self._normalization(self._raw_rewards)

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        try:
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

    def _draw(self, prompts: list[str]) -> Drawn:
        """Completions of the prompts, G of each together, with what the reward functions say."""
        prompt_ids, images, fields = self._tokenize_prompts(prompts)
        completion_ids, _ = self._generate_single_turn(prompt_ids, images, fields, self.num_generations)
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
        tokens = self.accelerator.gather(scored["completion_mask"].sum()).sum()
        return scored | {"num_items_in_batch": tokens}

    def _count(self, name: str, number: int) -> None:
        """Logs a number of this step, over all processes."""
        total = self.accelerator.gather(torch.tensor([number], device=self.accelerator.device)).sum()
        self._metrics["train" if self.model.training else "eval"][name].append(float(total))

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
    order = query_order(list(by_id), settings.steps * settings.prompts_per_step, seed)
    if vary:  # each time has a name of its own
        by_id = {f"{query_id}#{n}": vary(by_id[query_id], n) for query_id, n in passes(order)}
        order = list(by_id)
    resampling = Resampling(by_id, settings.num_generations, settings.resample_rounds, seed)
    weights = [weight for _, weight in rewards.values()]
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
            measures={name: _for_trl(name, measure, by_id) for name, measure in measures.items()},
            model=model,
            args=_arguments(settings, max_new_tokens, seed, checkpoints, weights, quantised=is_quantised(model)),
            train_dataset=Dataset.from_dict({"prompt": order}),
            processing_class=tokenizer,
            reward_funcs=[_for_trl(name, reward, by_id) for name, (reward, _) in rewards.items()],
            callbacks=[KeepNormalization(normalization), SealCheckpoints(), stop, *callbacks],
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
    )


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


def _rollouts_at_once(prompts: list[list[int]], group: int, most: int | None) -> Iterator[list[list[int]]]:
    """The prompts of a step, each of which comes as often as a group has rollouts, in whole groups or parts of one."""
    if most is None or most >= group:
        size = len(prompts) if most is None else most - most % group
        yield from (prompts[n : n + size] for n in range(0, len(prompts), size))
        return
    for start in range(0, len(prompts), group):
        yield from (prompts[n : min(n + most, start + group)] for n in range(start, start + group, most))
