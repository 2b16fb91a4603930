from __future__ import annotations

import json
import math

import pytest
import torch
from transformers import TrainerCallback
from trl import GRPOTrainer

from prlm_cli.core.errors import SettingsError
from prlm_cli.core.settings import PolicySettings
from prlm_cli.models.adapters import save_adapter
from prlm_cli.models.quiet import quiet_libraries
from prlm_cli.training import grpo
from prlm_cli.training.callbacks import Diverged
from prlm_cli.training.grpo import Rollout, train_grpo
from prlm_cli.training.policy_trainer import PolicyTrainer
from prlm_cli.training.reward_normalization import RewardNormalization
from tests.training.tiny import asked, largest_difference, trainable, weights_of

_OFTEN = list(range(0, 258, 4))  # stop ids: a random model must meet one within a few tokens


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
        stop_ids=stop_ids or _OFTEN,
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
            stop_ids=_OFTEN,
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


@pytest.fixture
def tiny(tiny_model):
    return trainable(tiny_model)


# Two prompts of two rows each: padded left, completions padded right; the third row was cut and is masked whole.
_INPUT_IDS = [
    [257, 257, 70, 71, 72, 80, 81, 82, 257],
    [257, 257, 70, 71, 72, 80, 257, 257, 257],
    [65, 66, 67, 68, 69, 90, 91, 92, 93],
    [65, 66, 67, 68, 69, 95, 96, 97, 98],
]
_MASK = [
    [0, 0, 1, 1, 1, 1, 1, 1, 1],
    [0, 0, 1, 1, 1, 1, 1, 0, 0],
    [1, 1, 1, 1, 1, 0, 0, 0, 0],
    [1, 1, 1, 1, 1, 1, 1, 1, 1],
]


def test_log_probabilities_and_entropies_are_those_of_stock_trl(tiny, tmp_path):
    trainer = policy_trainer(*tiny, tmp_path)
    ids, mask = torch.tensor(_INPUT_IDS), torch.tensor(_MASK)

    logps, entropies, aux = trainer._get_per_token_logps_and_entropies(
        trainer.model, ids, mask, 4, compute_entropy=True
    )
    expected, expected_entropies, _ = GRPOTrainer._get_per_token_logps_and_entropies(
        trainer, trainer.model, ids, mask, 4, compute_entropy=True
    )

    kept = mask[:, -4:].bool()
    assert trainer.shares_prefix
    assert aux is None
    assert torch.allclose(logps[kept], expected[kept], atol=1e-4)
    assert torch.allclose(entropies[kept], expected_entropies[kept], atol=1e-4)
    assert not logps[~kept].any()


def trained_both_ways(tiny_model, tmp_path, monkeypatch, fields):
    """The logged figures and the weights with the prompt shared, and those of stock TRL's own scoring."""
    runs = []
    for name, reason in {"shared": "", "stock": "as stock"}.items():
        monkeypatch.setattr(grpo.shared_prefix, "why_not", lambda model, reason=reason: reason)
        figures, (model, tokenizer) = Figures(), trainable(tiny_model)
        train(model, tokenizer, tmp_path / name, callbacks=[figures], **fields)
        runs.append((figures.lines, weights_of(model)))
    return runs


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"micro_batch_tokens": 1000},
        {"micro_batch_tokens": 20},
        {"micro_batch_tokens": 1},
        {"beta": 0.1, "loss_type": "grpo"},
        {"scale_rewards": "batch", "loss_type": "dr_grpo"},
    ],
    ids=[
        "a group at a time",
        "whole step at once",
        "part of a group at a time",
        "a completion at a time",
        "with a KL term",
        "other normalisation",
    ],
)
def test_training_is_that_of_stock_trl(tiny_model, tmp_path, monkeypatch, fields):
    (shared, weights), (stock, expected) = trained_both_ways(tiny_model, tmp_path, monkeypatch, fields)

    for key in ("loss", "grad_norm", "reward", "reward_std", "entropy", "completions/mean_length"):
        for ours, theirs in zip(shared[:2], stock[:2], strict=True):
            assert ours[key] == pytest.approx(theirs[key], rel=1e-4, abs=1e-4), key
    assert shared[0]["grad_norm"] > 0
    assert largest_difference(weights, expected) < 1e-3


def test_gradient_checkpointing_changes_nothing(tiny_model, tmp_path, monkeypatch):
    common, runs = grpo.common_arguments, []
    for on in (False, True):
        monkeypatch.setattr(
            grpo, "common_arguments", lambda *a, on=on, **f: common(*a, **f) | {"gradient_checkpointing": on}
        )
        figures, (model, tokenizer) = Figures(), trainable(tiny_model)
        train(model, tokenizer, tmp_path / str(on), callbacks=[figures])
        runs.append([(line["reward"], line["grad_norm"]) for line in figures.lines[:2]])

    assert runs[1] == [pytest.approx(figures, rel=1e-4) for figures in runs[0]]


def test_the_advantages_of_one_group_of_four(tiny, tmp_path):
    trainer = policy_trainer(*tiny, tmp_path, rewards=[lambda completions, queries: [0.0, 1.0, 2.0, 5.0]])

    with quiet_libraries():
        scored = trainer._generate_and_score_completions([{"prompt": "q1"}] * 4)

    # Mean 2; the standard deviation of the sample is sqrt((4 + 1 + 0 + 9) / 3).
    spread = math.sqrt(14 / 3)
    assert scored["advantages"].tolist() == pytest.approx([-2 / spread, -1 / spread, 0, 3 / spread], abs=1e-3)
    assert float(scored["advantages"].sum()) == pytest.approx(0, abs=1e-5)


def _advantages(trainer, prompts=("q1", "q2")):
    with quiet_libraries():
        return trainer._generate_and_score_completions([{"prompt": q} for q in prompts for _ in range(4)])["advantages"]


def _narrow_and_wide(completions, queries):
    return [0.0, 1.0, 0.0, 1.0, 0.2, 0.2, 0.4, 0.4], [0.0, 0.0, 100.0, 100.0, 7.0, None, 9.0, 11.0]


@pytest.fixture
def narrow_and_wide():
    return [lambda at=at, **given: _narrow_and_wide(**given)[at] for at in (0, 1)]


def test_each_reward_of_a_group_counts_alike_once_it_is_normalised(tiny, tmp_path, narrow_and_wide):
    trainer = policy_trainer(
        *tiny, tmp_path, rewards=narrow_and_wide, scales=["group", "group"], prompts_per_step=2, scale_rewards="none"
    )

    # Of 0 1 0 1 and 0 0 100 100 each is at sqrt(3)/2 deviations from the mean; of 7 9 11 at -1, 0 and 1.
    near, one = math.sqrt(3) / 2, 1.0
    by_hand = [-2 * near, 0, 0, 2 * near, -near - one, -near, near, near + one]
    mean = sum(by_hand[4:]) / 4
    expected = by_hand[:4] + [value - mean for value in by_hand[4:]]
    assert _advantages(trainer).tolist() == pytest.approx(expected, abs=2e-3)


def test_normalised_by_group_and_scaled_by_batch_is_what_trl_calls_normalize_then_sum(tiny, tmp_path, narrow_and_wide):
    ours = policy_trainer(
        *tiny, tmp_path, rewards=narrow_and_wide, scales=["group"] * 2, prompts_per_step=2, scale_rewards="batch"
    )
    stock = policy_trainer(*tiny, tmp_path, rewards=narrow_and_wide, scales=["none"] * 2, prompts_per_step=2)
    stock.multi_objective_aggregation = "normalize_then_sum"

    assert torch.allclose(_advantages(ours), _advantages(stock), atol=1e-3)


def test_the_log_says_what_rewards_were_before_they_were_normalised(tiny, tmp_path, narrow_and_wide):
    options = {"rewards": narrow_and_wide, "prompts_per_step": 2}
    logs = []
    for scales in (["none", "none"], ["group", "running"]):
        trainer = policy_trainer(*tiny, tmp_path, scales=scales, **options)
        _advantages(trainer)
        logs.append({name: trainer._metrics["train"][name] for name in trainer._metrics["train"] if "reward" in name})

    plain, normalised = ({name: log[name] for name in log if "frac" not in name} for log in logs)
    assert plain["rewards/measure1/mean"] == [pytest.approx(227 / 7)]
    assert {"reward", "reward_std", "rewards/measure0/std"} <= normalised.keys()
    assert normalised == {name: pytest.approx(value) for name, value in plain.items()}


def test_training_goes_on_with_the_running_scale_of_its_rewards(tiny_model, tmp_path):
    fields = {"steps": 3, "save_steps": 1, "normalise": {"measure": "running", "halves": "running"}}
    others = {"halves": (halves, 0.5)}
    unbroken = trainable(tiny_model)
    train(*unbroken, tmp_path / "unbroken", others=others, **fields)

    def stop(step):
        if step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(*trainable(tiny_model), tmp_path / "broken", others=others, callbacks=[Figures(stop)], **fields)
    resumed = trainable(tiny_model)

    assert train(*resumed, tmp_path / "broken", others=others, **fields) == 2
    assert largest_difference(weights_of(resumed[0]), weights_of(unbroken[0])) < 1e-6


def test_a_group_without_spread_trains_nothing(tiny, tmp_path):
    (model, tokenizer), figures = tiny, Figures()
    before = weights_of(model)

    train(model, tokenizer, tmp_path, lambda completions, queries: [1.0] * len(completions), callbacks=[figures])

    assert [line["grad_norm"] for line in figures.lines[:2]] == [0.0, 0.0]
    assert largest_difference(before, weights_of(model)) == 0


def test_training_changes_the_adapter_and_nothing_else(tiny, tmp_path):
    model, tokenizer = tiny
    before, base = weights_of(model), weights_of(model, trained=False)

    assert train(model, tokenizer, tmp_path) == 0

    assert largest_difference(before, weights_of(model)) > 1e-4
    assert largest_difference(base, weights_of(model, trained=False)) == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_reward_that_is_not_finite_names_the_query(tiny, tmp_path, bad):
    def reward(*, completions, queries):
        return [bad if query.query_id == "q2" else 1.0 for query in queries]

    with pytest.raises(Diverged, match=r"reward 'measure' is not finite for query q2"):
        train(*tiny, tmp_path, reward, prompts_per_step=4)


def test_a_batch_that_nothing_scores_is_an_error(tiny, tmp_path):
    with pytest.raises(Diverged, match=r"no reward scored any completion of a step"):
        train(*tiny, tmp_path, _nothing)


def test_a_query_that_a_reward_does_not_apply_to_is_passed_over(tiny, tmp_path):
    def reward(*, completions, queries):
        values = lengths(completions=completions, queries=queries)
        return [None if q.query_id == "q1" else v for q, v in zip(queries, values, strict=True)]

    figures = Figures()
    train(*tiny, tmp_path, reward, prompts_per_step=4, callbacks=[figures])

    assert all(math.isfinite(line["reward"]) for line in figures.lines[:2])
    assert [line["completions/unscored"] for line in figures.lines[:2]] == [0.25, 0.25]


def test_a_reward_that_applies_to_no_query_of_a_step_leaves_the_others_to_train(tiny, tmp_path):
    (model, tokenizer), figures = tiny, Figures()
    before = weights_of(model)

    train(model, tokenizer, tmp_path, others={"cold": (_nothing, 1.0)}, callbacks=[figures])

    assert largest_difference(before, weights_of(model)) > 1e-4
    assert figures.lines[0]["rewards/cold/mean"] is None


def test_what_is_measured_of_completions_is_logged_and_does_not_train(tiny_model, tmp_path):
    seen, figures, (plain, measured) = [], Figures(), (trainable(tiny_model) for _ in range(2))

    def measure(*, completions, queries):
        seen.append([float(len(text)) if n % 2 else None for n, text in enumerate(completions)])
        return seen[-1]

    train(*plain, tmp_path / "plain")
    train(*measured, tmp_path / "measured", callbacks=[figures], measures={"odd": measure, "cold": _nothing})

    assert largest_difference(weights_of(plain[0]), weights_of(measured[0])) == 0
    known = [[value for value in values if value is not None] for values in seen]
    assert [line["completions/odd"] for line in figures.lines[:2]] == [
        pytest.approx(sum(values) / len(values)) for values in known
    ]
    assert "completions/cold" not in figures.lines[0]


def test_a_completion_that_nothing_scores_is_not_told_to_anybody(tiny, tmp_path, caplog, capfd):
    def some(*, completions, queries):
        return [None if n % 2 else 1.0 * n for n, _ in enumerate(completions)]

    train(*tiny, tmp_path, some)

    assert "completion" not in caplog.text + "".join(capfd.readouterr())


def _nothing(*, completions, queries):
    return [None] * len(completions)


def test_fewer_queries_than_a_step_takes_is_an_error_and_not_a_run_of_no_steps(tiny, tmp_path):
    with pytest.raises(SettingsError, match=r"1 training queries, but a step takes 2; lower policy\.prompts_per_step"):
        train(*tiny, tmp_path, queries=1)


def _rollouts(trainer, prompts, monkeypatch, process=0):
    monkeypatch.setattr(type(trainer.accelerator), "process_index", process)
    with quiet_libraries():
        return trainer._generate_single_turn([prompt for prompt in prompts for _ in range(4)], None, {}, 4)[0]


def test_any_number_of_processes_draws_the_same_rollouts(tiny, tmp_path, monkeypatch):
    prompts = [[65, 66, 67], [70, 71, 72, 73, 74]]
    one, *two = (policy_trainer(*tiny, tmp_path, draws_by_row=True) for _ in range(3))

    together = _rollouts(one, prompts, monkeypatch)
    apart = [_rollouts(two[n], [prompts[n]], monkeypatch, process=n) for n in (0, 1)]

    assert len({tuple(row) for row in together}) > 2
    assert apart == [together[:4], together[4:]]


def test_rollouts_drawn_in_parts_are_those_drawn_at_once(tiny, tmp_path, monkeypatch):
    prompts = [[65, 66, 67], [70, 71, 72, 73, 74]]
    at_once, in_parts = (policy_trainer(*tiny, tmp_path, draws_by_row=True) for _ in range(2))
    in_parts._rollouts.most = 3

    assert _rollouts(in_parts, prompts, monkeypatch) == _rollouts(at_once, prompts, monkeypatch)


def test_a_second_draw_of_a_step_is_another_and_a_step_begun_anew_draws_the_same(tiny, tmp_path, monkeypatch):
    trainer, again = (policy_trainer(*tiny, tmp_path, draws_by_row=True) for _ in range(2))
    first, second = (_rollouts(trainer, [[65, 66, 67]], monkeypatch) for _ in range(2))

    assert first != second
    assert _rollouts(again, [[65, 66, 67]], monkeypatch) == first
    again.state.global_step = 1
    assert _rollouts(again, [[65, 66, 67]], monkeypatch) not in (first, second)


def test_rollouts_by_rows_where_the_prompt_cannot_be_shared_are_refused(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(grpo.shared_prefix, "why_not", lambda model: "it is stock")

    with pytest.raises(SettingsError, match=r"policy\.sampling=rows cannot be: it is stock; use auto"):
        train(*tiny, tmp_path, sampling="rows")


def test_as_many_queries_as_a_step_takes_are_enough(tiny, tmp_path):
    figures = Figures()

    train(*tiny, tmp_path, queries=2, steps=3, callbacks=[figures])

    assert len([line for line in figures.lines if "loss" in line]) == 3


def test_completions_that_were_all_cut_train_nothing(tiny, tmp_path):
    model, tokenizer = tiny
    before, figures = weights_of(model), Figures()

    train(model, tokenizer, tmp_path, max_new_tokens=1, callbacks=[figures], stop_ids=[tokenizer.eos_token_id])

    assert [line["completions/clipped_ratio"] for line in figures.lines[:2]] == [1.0, 1.0]
    assert largest_difference(before, weights_of(model)) == 0


@pytest.fixture
def quantised(tiny_model):
    return trainable(tiny_model, qlora=True)


def test_adapters_of_a_4_bit_model_train_in_fp32(quantised, tmp_path):
    trainer = policy_trainer(*quantised, tmp_path)

    assert {p.dtype for p in trainer.model.parameters() if p.requires_grad} == {torch.float32}


def test_qlora_trains_the_adapter_and_leaves_the_4_bit_weights_alone(quantised, tmp_path):
    (model, tokenizer), figures = quantised, Figures()
    before, base = weights_of(model), weights_of(model, trained=False)

    train(model, tokenizer, tmp_path, callbacks=[figures], learning_rate=1e-5)

    assert any(weight.dtype == torch.uint8 for weight in base.values())
    assert largest_difference(before, weights_of(model)) > 0
    assert all(torch.equal(weight, base[name]) for name, weight in weights_of(model, trained=False).items())
    assert figures.lines[0]["grad_norm"] > 0


def test_no_4_bit_layer_may_repack_itself_and_lose_its_gradient(quantised):
    from bitsandbytes.nn import Linear4bit

    model, _ = quantised
    layers = [module for module in model.modules() if isinstance(module, Linear4bit)]
    ids = torch.tensor([[70, 71, 72, 73]])

    def gradient():
        model.zero_grad()
        model.train()(input_ids=ids, labels=ids).loss.backward()
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    before = gradient()
    with torch.no_grad():
        model.eval()(input_ids=ids)

    assert len(layers) == 14
    assert not any(layer.support_avx512bf16_for_cpu for layer in layers)
    assert torch.equal(gradient(), before)


def test_the_log_names_rewards_and_holds_no_text(tiny, tmp_path):
    figures = Figures()

    train(*tiny, tmp_path, callbacks=[figures])

    assert "rewards/measure/mean" in figures.lines[0]
    assert "text 1" not in json.dumps(figures.lines)
    assert not list((tmp_path / "checkpoints").rglob("*.parquet"))


def test_the_reference_of_a_kl_term_is_not_saved_with_the_adapter(tiny, tmp_path):
    model, tokenizer = tiny
    train(model, tokenizer, tmp_path, beta=0.1)

    save_adapter(model, tmp_path / "adapter")

    assert {path.name for path in (tmp_path / "adapter").iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
