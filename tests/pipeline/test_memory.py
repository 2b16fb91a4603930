from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prlm_cli.core.configuration import resolve
from prlm_cli.models.shapes import shape_of
from prlm_cli.pipeline.memory import GIB, checkpoints, completion_tokens, memory_of, packed_lengths
from tests.bench.training_parts.plan import CASES, errors_of, measured_bytes
from tests.bench.training_parts.plan import config_of as model_of

_MODEL = "Qwen/Qwen2.5-0.5B"


def _memory(device="cuda", **flags):
    names = {key.replace("__", "."): value for key, value in flags.items()}
    return memory_of(shape_of(_MODEL), resolve(flags={"model.name": _MODEL, **names}), device)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_estimate_is_within_15_percent_of_what_a_step_takes(case):
    from prlm_cli.models.shapes import shape_of_config

    small = case._replace(
        sizes=case.sizes | {"num_hidden_layers": 2}, prompt=case.prompt // 2, completion=case.completion // 2
    )
    estimate = memory_of(shape_of_config(model_of(small)), small.settings(), small.device)

    errors = errors_of(estimate, measured_bytes(small))

    assert max(map(abs, errors.values())) <= 0.15, errors


def test_weights_and_adapters_are_counted_by_hand():
    shape = shape_of(_MODEL)
    lasting = _memory(model__qlora=True, policy__reward_model="none").lasting

    # 24 layers of 896 wide: 14 heads and 2 of keys and values, of 64 each; feed-forward 4864.
    linear = 24 * (2 * 896 * 896 + 2 * 896 * 128 + 3 * 896 * 4864)
    widths = 24 * (2 * (896 + 896) + 2 * (896 + 128) + 3 * (896 + 4864))
    assert (shape.linear_parameters, shape.adapted_widths) == (linear, widths)
    assert lasting["weights"] == pytest.approx(0.515869140625 * linear + 2 * (494_032_768 - linear))
    assert lasting["adapters"] == lasting["gradients"] == lasting["optimiser"] / 2 == 4 * 16 * widths
    assert lasting["reward model"] == 0


def test_the_reward_model_is_a_second_adapter_or_a_model_of_its_own():
    second = _memory().lasting
    own = _memory(reward__model="bert-base-uncased").lasting
    unused = _memory(policy__rewards={"personalization": 0.0}).lasting

    assert second["reward model"] == second["adapters"] + 4 * 896
    assert own["reward model"] == 4 * 109_482_240
    assert unused["reward model"] == 0


def test_the_kl_term_keeps_a_copy_of_the_adapter():
    assert _memory(policy__beta=0.04).lasting["adapters"] == 2 * _memory().lasting["adapters"]


def test_a_cpu_has_fp32_and_no_overhead_and_keeps_activations():
    cpu, gpu = _memory("cpu"), _memory("cuda")

    assert cpu.lasting["weights"] == 2 * gpu.lasting["weights"]
    assert cpu.overhead == 0 < gpu.overhead
    assert cpu.phases["update"]["activations"] > 10 * gpu.phases["update"]["activations"]


def test_phases_that_there_are_not_are_not_counted():
    assert set(_memory().phases) == {"rollout", "update", "held-out answers", "warm start"}
    assert set(_memory(warm_start__kind="none", policy__eval_queries=0).phases) == {"rollout", "update"}
    assert "warm start" not in _memory(policy__start_from="policy-1").phases
    assert "star samples" in _memory(warm_start__kind="star").phases


def test_a_smaller_pass_that_meets_as_many_prompts_has_them_all():
    config = resolve(flags={"prompt.max_tokens": 100, "policy.max_new_tokens": 10, "policy.prompts_per_step": 2})

    assert packed_lengths(shape_of(_MODEL), config, 16) == [99 + 80, 99 + 80]
    assert packed_lengths(shape_of(_MODEL), config, 4) == [99 + 20, 99 + 20]
    assert packed_lengths(shape_of(_MODEL), config, 1) == [99 + 10]


def test_completions_are_as_long_as_generation_makes_them_where_nothing_is_set():
    assert completion_tokens(resolve()) == 96
    assert completion_tokens(resolve(flags={"prompt.reasoning": "off"})) == 24
    assert completion_tokens(resolve(flags={"policy.max_new_tokens": 7})) == 7


def test_checkpointing_is_on_where_there_is_a_gpu_or_where_it_is_said():
    policies = {
        setting: resolve(flags={"policy.gradient_checkpointing": setting}).policy for setting in ("auto", "on", "off")
    }

    assert [checkpoints(policies["auto"], device) for device in ("cpu", "cuda")] == [False, True]
    assert checkpoints(policies["on"], "cpu") and not checkpoints(policies["off"], "cuda")


@given(
    micro_batch=st.sampled_from([1, 2, 4, 8, 16]),
    prompt=st.integers(64, 2048),
    completion=st.integers(1, 512),
    device=st.sampled_from(["cpu", "cuda"]),
)
def test_more_work_never_takes_less_memory(micro_batch, prompt, completion, device):
    def peak(**more):
        flags = {"policy__micro_batch": micro_batch, "prompt__max_tokens": prompt, "policy__max_new_tokens": completion}
        return _cached_memory(device, **(flags | more)).peak

    here = peak()
    assert here <= peak(policy__micro_batch=16)
    assert here <= peak(prompt__max_tokens=prompt + 64)
    assert here <= peak(policy__max_new_tokens=completion + 8)
    assert here < 1000 * GIB


_SHAPE = []


def _cached_memory(device, **flags):
    if not _SHAPE:
        _SHAPE.append(shape_of(_MODEL))
    return memory_of(_SHAPE[0], resolve(flags={key.replace("__", "."): v for key, v in flags.items()}), device)
