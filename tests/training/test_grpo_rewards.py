"""What becomes of rewards in GRPO: advantages, scales, and completions that nothing scores."""

from __future__ import annotations

import json
import math

import pytest
import torch

from prlm_cli.models.quiet import quiet_libraries
from prlm_cli.training.callbacks import Diverged
from tests.training.grpo_runs import Figures, halves, lengths, policy_trainer, train
from tests.training.tiny import largest_difference, trainable, weights_of


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


def test_the_log_names_rewards_and_holds_no_text(tiny, tmp_path):
    figures = Figures()

    train(*tiny, tmp_path, callbacks=[figures])

    assert "rewards/measure/mean" in figures.lines[0]
    assert "text 1" not in json.dumps(figures.lines)
    assert not list((tmp_path / "checkpoints").rglob("*.parquet"))
