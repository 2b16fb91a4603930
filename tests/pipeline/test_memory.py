from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prlm_cli.core.configuration import resolve
from prlm_cli.models.shapes import shape_of, shape_of_config
from prlm_cli.pipeline import memory
from prlm_cli.pipeline.memory import GIB, checkpoints, completion_tokens, largest_pass, memory_of, tokens_of_step
from prlm_cli.training import token_logps
from prlm_cli.training.micro_batches import Group, packed_passes
from tests.bench.training_parts.plan import CASES, config_of, errors_of, measured_bytes, model_of, warm_start_bytes

_MODEL = "Qwen/Qwen2.5-0.5B"


def _memory(device="cuda", processes=1, **flags):
    names = {key.replace("__", "."): value for key, value in flags.items()}
    return memory_of(shape_of(_MODEL), resolve(flags={"model.name": _MODEL, **names}), device, processes)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_estimate_is_within_15_percent_of_what_a_step_takes(case):
    small = _small(case)
    estimate = memory_of(shape_of_config(config_of(small)), small.settings(), small.device)

    errors = errors_of(estimate, measured_bytes(small))

    assert max(map(abs, errors.values())) <= 0.15, errors


def test_where_logits_are_transformed_after_the_head_a_warm_start_keeps_them_all():
    case = _small(CASES[0])._replace(family="granite")
    estimate = memory_of(shape_of_config(config_of(case)), case.settings(), case.device).phases["warm start"]

    kept, peak = warm_start_bytes(model_of(case), case)

    assert estimate["head"] == 4 * 4 * case.completion * case.sizes["vocab_size"]  # rows and fp32
    assert estimate["activations"] + estimate["head"] == pytest.approx(kept, rel=0.15)
    assert sum(estimate.values()) == pytest.approx(peak, rel=0.15)


def _small(case):
    return case._replace(
        sizes=case.sizes | {"num_hidden_layers": 2},
        prompt=case.prompt // 2,
        completion=case.completion // 2,
        pass_tokens=case.pass_tokens and case.pass_tokens // 2,
    )


def test_weights_and_adapters_are_counted_by_hand():
    shape = shape_of(_MODEL)
    lasting = _memory(model__qlora=True, policy__reward_model="none").lasting

    # 24 layers of 896 wide: 14 heads and 2 of keys and values, of 64 each; feed-forward 4864.
    linear = 24 * (2 * 896 * 896 + 2 * 896 * 128 + 3 * 896 * 4864)
    widths = 24 * (2 * (896 + 896) + 2 * (896 + 128) + 3 * (896 + 4864))
    assert (shape.linear_parameters, shape.adapted_widths) == (linear, widths)
    assert lasting["weights"] == pytest.approx(0.515869140625 * linear + 2 * (494_032_768 - linear))
    assert lasting["adapters"] == lasting["gradients"] == 4 * 16 * widths
    assert lasting["optimiser"] == 2 * (1 + 1 / 64) * 16 * widths
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


def test_a_base_in_parts_is_whole_in_every_phase_but_the_update():
    shape, whole = shape_of(_MODEL), _memory()
    parts = _memory(processes=4, policy__shard_base=True)
    layers = 2 * (shape.linear_parameters + shape.linear_biases)

    assert parts.lasting["weights"] == pytest.approx(whole.lasting["weights"] - layers * 3 / 4)
    assert parts.phases["update"]["whole layers"] == pytest.approx(layers * 3 / 24)
    others = [of_phase["whole layers"] for phase, of_phase in parts.phases.items() if phase != "update"]
    assert others == pytest.approx([layers * 3 / 4] * len(others))


def test_each_process_draws_for_its_share_of_the_prompts():
    one, two = (_memory(processes=n, policy__prompts_per_step=4).phases for n in (1, 2))

    assert two["rollout"]["cache"] == one["rollout"]["cache"] / 2
    assert two["held-out answers"] == one["held-out answers"]
    assert two["warm start"] == one["warm start"]


def test_a_cpu_has_fp32_and_no_overhead_and_keeps_activations():
    cpu, gpu = _memory("cpu"), _memory("cuda")

    assert cpu.lasting["weights"] == 2 * gpu.lasting["weights"]
    assert cpu.overhead == 0 < gpu.overhead
    assert cpu.phases["update"]["activations"] > 10 * gpu.phases["update"]["activations"]


@pytest.mark.parametrize("checkpointing", ["on", "off"])
def test_a_cpu_in_bf16_takes_what_a_gpu_takes_without_its_overhead(checkpointing):
    flags = {"model__precision": "bf16", "policy__gradient_checkpointing": checkpointing}
    cpu, gpu = _memory("cpu", **flags), _memory("cuda", **flags)

    assert (cpu.lasting, cpu.phases, cpu.overhead) == (gpu.lasting, gpu.phases, 0)


def test_the_optimiser_of_a_4_bit_model_is_in_8_bits_on_a_gpu_alone():
    on_cpu = {"model__qlora": True, "model__precision": "bf16"}
    fp32 = [_memory(), _memory("cpu"), _memory("cpu", model__qlora=True), _memory("cpu", **on_cpu)]
    assert {memory.lasting["optimiser"] / memory.lasting["adapters"] for memory in fp32} == {2}
    assert _memory(model__qlora=True).lasting["optimiser"] < 0.26 * fp32[0].lasting["optimiser"]


def test_phases_that_there_are_not_are_not_counted():
    assert set(_memory().phases) == {"rollout", "update", "held-out answers", "warm start"}
    assert set(_memory(warm_start__kind="none", policy__eval_queries=0).phases) == {"rollout", "update"}
    assert "warm start" not in _memory(policy__start_from="policy-1").phases
    assert "star samples" in _memory(warm_start__kind="star").phases


@pytest.mark.parametrize(
    ("most", "rows", "tokens"),
    [
        (None, [99 + 80], 2 * (99 + 80)),
        (2000, [99 + 80] * 2, 2 * (99 + 80)),
        (179, [99 + 80], 2 * (99 + 80)),
        (178, [99 + 40], 2 * (2 * 99 + 80)),
        (130, [99 + 30], 2 * (3 * 99 + 80)),
        (1, [99 + 10], 2 * (8 * 99 + 80)),
    ],
    ids=["a group", "all groups", "just a group", "half of one", "a third", "one completion"],
)
def test_a_pass_has_whole_groups_or_an_even_part_of_one(most, rows, tokens):
    config = _short(most)
    shape = shape_of(_MODEL)

    assert largest_pass(shape, config) == rows
    assert tokens_of_step(shape, config) == tokens


@pytest.mark.parametrize(("most", "rows"), [(None, 8), (2000, 16), (500, 4), (1, 1)])
def test_where_no_prompt_is_shared_a_pass_has_rows(most, rows):
    shape = replace(shape_of(_MODEL), packs=False)

    assert largest_pass(shape, _short(most)) == [110] * rows
    assert tokens_of_step(shape, _short(most)) == 16 * 110


def _short(most):
    return resolve(
        flags={
            "prompt.max_tokens": 100,
            "policy.max_new_tokens": 10,
            "policy.prompts_per_step": 2,
            "policy.micro_batch_tokens": most,
        }
    )


@given(
    prompt=st.integers(64, 200),
    completion=st.integers(1, 60),
    group=st.integers(2, 8),
    prompts=st.integers(1, 4),
    most=st.none() | st.integers(1, 2000),
)
def test_the_plan_s_passes_are_those_of_the_trainer(prompt, completion, group, prompts, most):
    config = resolve(
        flags={
            "prompt.max_tokens": prompt,
            "policy.max_new_tokens": completion,
            "policy.num_generations": group,
            "policy.prompts_per_step": prompts,
            "policy.micro_batch_tokens": most,
        }
    )
    step = [Group(list(range(group)), [1] * prompt, [[2] * completion] * group) for _ in range(prompts)]
    passes = packed_passes(step, most)
    shape = _shape()

    assert sum(largest_pass(shape, config)) == max(one.tokens for one in passes)
    assert tokens_of_step(shape, config) == sum(part.tokens for one in passes for part in one.groups)


def test_the_plan_s_tile_of_logits_is_that_of_training():
    assert memory._TILE == token_logps.TILE


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
    tokens=st.integers(1, 4000),
    prompt=st.integers(64, 2048),
    completion=st.integers(1, 512),
    device=st.sampled_from(["cpu", "cuda"]),
)
def test_more_work_never_takes_less_memory(tokens, prompt, completion, device):
    def peak(**more):
        flags = {"policy.micro_batch_tokens": tokens, "prompt.max_tokens": prompt, "policy.max_new_tokens": completion}
        return memory_of(_shape(), resolve(flags=flags | more), device).peak

    whole = {"policy.micro_batch_tokens": None}
    here = peak(**whole)
    assert here <= peak(**whole, **{"prompt.max_tokens": prompt + 64})
    assert here <= peak(**whole, **{"policy.max_new_tokens": completion + 8})
    assert peak() <= peak(**{"policy.micro_batch_tokens": 2 * tokens})
    assert here < 1000 * GIB


@cache
def _shape():
    return shape_of(_MODEL)
