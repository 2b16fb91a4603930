"""GRPO of tiny policies that tests go through: two steps of two groups of four, if nothing else is said."""

from __future__ import annotations

from transformers import TrainerCallback

from prlm_cli.core.settings import PolicySettings
from prlm_cli.models.quiet import quiet_libraries
from prlm_cli.training import grpo
from prlm_cli.training.grpo import Rollout, train_grpo
from prlm_cli.training.policy_trainer import PolicyTrainer
from prlm_cli.training.reward_normalization import RewardNormalization
from tests.training.tiny import asked, trainable, weights_of

OFTEN = list(range(0, 258, 4))  # stop ids: a random model must meet one within a few tokens


class Figures(TrainerCallback):
    """Keeps what the trainer logs; `at_step` is called as each step begins."""

    def __init__(self, at_step=lambda step: None):
        self.lines = []
        self._at_step = at_step

    def on_log(self, args, state, control, logs, **_):
        self.lines.append(logs)

    def on_step_begin(self, args, state, control, **_):
        self._at_step(state.global_step)


def lengths(*, completions, queries):
    """A reward with spread: how many different characters a completion has."""
    return [float(len(set(completion))) for completion in completions]


def halves(*, completions, queries):
    """A reward of another scale, which does not apply to every second completion."""
    return [None if n % 2 else 100.0 * len(completion) for n, completion in enumerate(completions)]


def settings(**fields) -> PolicySettings:
    few = {"steps": 2, "prompts_per_step": 2, "num_generations": 4, "learning_rate": 1e-2, "save_steps": 100}
    return PolicySettings(**(few | fields))


def train(
    model,
    tokenizer,
    folder,
    reward=lengths,
    *,
    others=None,
    queries=4,
    stop_ids=None,
    callbacks=(),
    note=print,
    measures=None,
    **fields,
):
    rollouts = [Rollout([65 + n] * (5 + 3 * n) + [66], asked(n)) for n in range(queries)]
    chosen = settings(**fields)
    return train_grpo(
        model,
        tokenizer,
        rollouts,
        {"measure": (reward, 1.0), **(others or {})},
        chosen,
        stop_ids=stop_ids or OFTEN,
        max_new_tokens=chosen.max_new_tokens or 6,
        seed=0,
        checkpoints=folder / "checkpoints",
        callbacks=callbacks,
        note=note,
        measures=measures or {},
    )


def policy_trainer(
    model,
    tokenizer,
    folder,
    *,
    rewards=(lengths,),
    scales=("none",),
    skips=False,
    resampling=None,
    draws_by_row=False,
    **fields,
) -> PolicyTrainer:
    """A trainer of groups of four that has not begun."""
    from datasets import Dataset

    by_id = {f"q{n}": Rollout([65 + n] * (3 + n), asked(n)) for n in range(4)}
    with quiet_libraries():
        return PolicyTrainer(
            prompt_ids={query_id: rollout.prompt_ids for query_id, rollout in by_id.items()},
            stop_ids=OFTEN,
            normalization=RewardNormalization(scales, 4),
            micro_batch_tokens=settings(**fields).micro_batch_tokens,
            note=print,
            skips=skips,
            resampling=resampling,
            draws_by_row=draws_by_row,
            model=model,
            args=grpo._arguments(settings(**({"prompts_per_step": 1} | fields)), 5, 0, folder, [1.0] * len(rewards)),
            train_dataset=Dataset.from_dict({"prompt": list(by_id)}),
            processing_class=tokenizer,
            reward_funcs=[grpo._for_trl(f"measure{n}", reward, by_id) for n, reward in enumerate(rewards)],
        )


# Two prompts of two rows each: padded left, completions padded right; the third row was cut and is masked whole.
INPUT_IDS = [
    [257, 257, 70, 71, 72, 80, 81, 82, 257],
    [257, 257, 70, 71, 72, 80, 257, 257, 257],
    [65, 66, 67, 68, 69, 90, 91, 92, 93],
    [65, 66, 67, 68, 69, 95, 96, 97, 98],
]


MASK = [
    [0, 0, 1, 1, 1, 1, 1, 1, 1],
    [0, 0, 1, 1, 1, 1, 1, 0, 0],
    [1, 1, 1, 1, 1, 0, 0, 0, 0],
    [1, 1, 1, 1, 1, 1, 1, 1, 1],
]


def trained_both_ways(tiny_model, tmp_path, monkeypatch, fields):
    """The logged figures and the weights with the prompt shared, and those of stock TRL's own scoring."""
    runs = []
    for name, reason in {"shared": "", "stock": "as stock"}.items():
        monkeypatch.setattr(grpo.shared_prefix, "why_not", lambda model, reason=reason: reason)
        figures, (model, tokenizer) = Figures(), trainable(tiny_model)
        train(model, tokenizer, tmp_path / name, callbacks=[figures], **fields)
        runs.append((figures.lines, weights_of(model)))
    return runs
