from __future__ import annotations

import pytest

from prlm_cli.core.configuration import resolve
from prlm_cli.core.errors import MissingError, SettingsError
from prlm_cli.models.shapes import shape_of
from prlm_cli.pipeline import plan as module
from prlm_cli.pipeline.memory import GIB
from prlm_cli.pipeline.pace import Pace, duration_of
from prlm_cli.pipeline.plan import fitted, plan
from tests.pipeline.small import small

_LARGE = {"model.name": "Qwen/Qwen2.5-7B-Instruct", "prompt.max_tokens": 1024, "policy.max_new_tokens": 256}


def test_each_card_is_told_what_makes_the_training_fit():
    found = plan(resolve(flags=_LARGE), cards=[4 * GIB, 12 * GIB, 80 * GIB])

    nothing, quantised, plain = found.cards
    assert (nothing.peak, nothing.settings) == (None, None)
    assert quantised.settings is not None and "model.qlora=true" in quantised.settings
    assert plain.settings == []
    assert all(card.peak <= card.size for card in (quantised, plain) if card.peak)
    assert found.duration is None


def test_a_base_in_parts_needs_processes_and_gives_way_to_4_bits():
    config = resolve(flags={**_LARGE, "policy.shard_base": True})

    assert plan(config, cards=[], processes=2).as_dict()["processes"] == 2
    (card,) = plan(config, cards=[12 * GIB], processes=2).cards
    assert card.settings is not None and {"policy.shard_base=false", "model.qlora=true"} <= set(card.settings)
    for planned in (plan, lambda config: fitted(config, 12 * GIB)):
        with pytest.raises(
            SettingsError, match=r"policy\.shard_base needs several processes; say how many: --processes 2"
        ):
            planned(config)


@pytest.mark.parametrize(("here", "devices"), [("cpu", ["cpu", "cuda"]), ("cuda", ["cuda"])])
def test_the_device_here_comes_first_and_a_gpu_is_always_planned_for(monkeypatch, here, devices):
    monkeypatch.setattr(module, "device_here", lambda: here)

    assert list(plan(resolve(flags=_LARGE), cards=[]).memory) == devices


def test_the_parts_of_the_json_sum_to_the_peak():
    memory = plan(resolve(flags=_LARGE), cards=[]).as_dict()["memory"]["cuda"]

    busiest = max(sum(parts.values()) for parts in memory["phases"].values())
    assert sum(memory["lasting"].values()) + busiest + memory["overhead"] == pytest.approx(memory["peak"], abs=20)


def test_fitting_is_for_the_device_here_unless_another_is_named():
    config = resolve(flags={"model.name": "Qwen/Qwen2.5-0.5B", "prompt.max_tokens": 1024})

    assert fitted(config, 6 * GIB, "cpu").policy.gradient_checkpointing == "on"
    assert fitted(config, 8 * GIB, "cuda") == config


def test_the_time_of_a_run_is_its_tokens_over_the_pace():
    config = resolve(
        flags={
            "model.name": "Qwen/Qwen2.5-0.5B",
            "prompt.max_tokens": 100,
            "policy.max_new_tokens": 20,
            "policy.steps": 10,
            "policy.prompts_per_step": 2,
            "policy.num_generations": 4,
            "policy.eval_steps": 5,
            "policy.eval_queries": 3,
            "warm_start.steps": 6,
            "warm_start.batch_size": 2,
        }
    )

    found = duration_of(shape_of("Qwen/Qwen2.5-0.5B"), config, Pace(trained=100.0, read=200.0, decoded=10.0))

    assert found.warm_start == pytest.approx(6 * 2 * 120 / 100)
    assert found.rollouts == pytest.approx(10 * (2 * 100 / 200 + 20 / 10))
    assert found.updates == pytest.approx(10 * 2 * (99 + 4 * 20) / 100)
    assert found.held_out == pytest.approx(3 * (3 * 100 / 200 + 20 / 10))
    assert found.total == pytest.approx(sum(found))


def test_queries_judged_with_another_users_records_as_well_take_twice_the_time():
    pace = Pace(trained=100.0, read=200.0, decoded=10.0)
    once, twice = (
        duration_of(shape_of("Qwen/Qwen2.5-0.5B"), resolve(flags={"policy.eval_swapped": swapped}), pace).held_out
        for swapped in (False, True)
    )

    assert twice == 2 * once


def test_the_time_of_a_warm_start_on_own_samples_is_also_that_of_drawing_them():
    flags = {"warm_start.max_queries": 8, "warm_start.samples": 7, "generation.batch_size": 10}
    lengths = {"prompt.max_tokens": 100, "policy.max_new_tokens": 20}
    shape, pace = shape_of("Qwen/Qwen2.5-0.5B"), Pace(trained=100.0, read=200.0, decoded=10.0)
    start = {
        kind: duration_of(shape, resolve(flags={**flags, **lengths, "warm_start.kind": kind}), pace).warm_start
        for kind in ("answers", "star")
    }

    assert start["star"] - start["answers"] == pytest.approx(64 * 100 / 200 + 7 * 20 / 10)


def test_the_pace_is_measured_with_the_model_itself(tiny_model):
    found = plan(small(tiny_model), cards=[], measure_pace=True)

    assert found.duration is not None and all(seconds > 0 for seconds in found.duration)


def test_nothing_is_downloaded_to_measure_the_pace():
    with pytest.raises(MissingError, match="is not here to calibrate with"):
        plan(resolve(flags=_LARGE), cards=[], measure_pace=True)
