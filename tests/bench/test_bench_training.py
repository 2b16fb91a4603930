"""The benchmark of training: its figures have names, its counts of bytes are right, its two sides are the same."""

from __future__ import annotations

import json

import pytest
import torch

from tests.bench import training
from tests.bench.figures import Figures
from tests.bench.training_parts import cuda, plan
from tests.bench.training_parts.drawing import measure_rollouts
from tests.bench.training_parts.precision import measure_precision
from tests.bench.training_parts.scoring import measure_scoring
from tests.bench.training_parts.sides import Size, prepared
from tests.bench.training_parts.step import measure_step
from tests.training.tiny import adapted

_TINY = plan.CASES[0]._replace(sizes=plan.CASES[0].sizes | {"num_hidden_layers": 1}, prompt=64, completion=8, group=2)
_SIZES = (Size(40, 6, 3), Size(20, 4, 2))


@pytest.fixture
def figures() -> Figures:
    return Figures()


@pytest.fixture(scope="module")
def model():
    return prepared(adapted.__wrapped__("llama"))


def _names(figures):
    return {figure["name"] for figure in json.loads(figures.as_json())["figures"]}


def test_the_figures_of_the_plan_have_an_aim_each(figures):
    plan.measure(figures, (_TINY,))

    assert set(training.AIMS) >= set(plan.ERRORS)
    assert _names(figures) == {*plan.ERRORS, *(f"{name}_{_TINY.name}" for name in plan.ERRORS)}


def test_both_sides_score_the_same_and_ours_keeps_less(figures, model):
    measure_scoring(figures, 1, model, _SIZES)

    assert figures["logp_max_difference"] <= 1e-4
    assert figures["grad_relative_error"] <= 1e-4
    assert figures["saved_bytes_ratio_40_6_3"] < 0.8
    assert figures["limit_40_6_3"] == pytest.approx(3 * 46 / 58)
    for size in _SIZES:
        share = figures[f"forward_backward_speedup_{size.name}"] / size.limit
        assert figures[f"limit_share_{size.name}"] == pytest.approx(share)


def test_both_sides_draw_the_same_rows(figures, model):
    measure_rollouts(figures, 1, model, _SIZES)

    for name in ("40_6_3", "20_4_2", "ragged_40_6_3"):
        assert figures[f"rollout_same_rows_{name}"] == 1
        assert figures[f"rollout_speedup_{name}"] > 0


def test_bf16_is_fp32_but_for_rounding(figures, model):
    rounded = prepared(adapted.__wrapped__("llama"))
    for parameter in rounded.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.to(torch.bfloat16)

    measure_precision(figures, 1, {"bf16": rounded, "fp32": model}, _SIZES)

    assert 0 < figures["bf16_logp_max_difference"] < 0.1
    for what in ("forward_backward", "rollout"):
        assert all(figures[f"bf16_{what}_speedup_{size.name}"] > 0 for size in _SIZES)


def test_a_step_is_that_of_stock_trl(figures, tiny_model, workspace_data, tmp_path):
    small = ["policy.num_generations=2", "policy.max_new_tokens=4", "prompt.max_tokens=200", "model.lora_r=2"]

    measure_step(figures, 1, workspace_data, tmp_path, f'model.name="{tiny_model}"', *small)

    assert figures["step_difference"] <= 1e-3
    assert {"step_speedup", "step_speedup_head_on_completions"} <= _names(figures)


@pytest.fixture
def workspace_data(write_jsonl, tmp_path):
    """A folder of histories and training queries."""
    from tests.conftest import tiny_corpus

    records = tiny_corpus()
    write_jsonl([record for record in records if "doc_id" in record], "profiles.jsonl")
    write_jsonl(
        [{k: v for k, v in record.items() if k != "split"} for record in records if record.get("split") == "train"],
        "queries.train.jsonl",
    )
    return tmp_path


def test_a_random_4_bit_model_of_any_size_trains_and_decodes(figures):
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    case = cuda.Case("tiny", sizes | {"num_key_value_heads": 2, "vocab_size": 300, "tie_word_embeddings": True})
    model = cuda.random_policy(case, torch.device("cpu"))

    cuda.measure_case(figures, 1, case, model, Size(64, 6, 3))

    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients and all(gradient.isfinite().all() for gradient in gradients)
    assert any(gradient.any() for gradient in gradients)
    assert {"cuda_limit_share_tiny", "cuda_rollout_speedup_tiny", "cuda_plan_error_tiny"} <= _names(figures)


def test_kept_bytes_are_those_of_the_distinct_tensors_that_a_gradient_needs():
    layer = torch.nn.Linear(4, 8, bias=False)
    given = torch.ones(3, 4)

    # The product with the weight keeps its input, the square its own: 3 x 4 and 3 x 8 numbers.
    assert plan.kept_bytes(layer, lambda: layer(given).square().sum()) == 4 * (12 + 24)


def test_the_peak_is_the_most_at_one_time():
    def work() -> None:
        first = torch.ones(1000)
        both = torch.cat([first, first])
        del first, both
        torch.ones(2500)

    assert plan.peak_bytes(work) == pytest.approx(4 * 3000, abs=256)
