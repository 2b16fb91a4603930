from __future__ import annotations

import json
import tomllib

import pytest

_MODEL = "Qwen/Qwen2.5-1.5B-Instruct"
_LONG = ["--set", "prompt.max_tokens=1024", "--set", "policy.max_new_tokens=256"]


@pytest.fixture(autouse=True)
def _on_a_cpu(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)


def test_the_plan_of_a_model_is_the_golden_one(prlm, golden):
    longer = ["--set", "prompt.max_tokens=2048", "--set", "policy.max_new_tokens=512"]

    result = prlm("plan", "--model", _MODEL, "--offline", "--vram", "6gb", "--vram", "8gb", *longer)

    assert (result.exit_code, result.stderr) == (0, "")
    golden("plan.txt", result.stdout)


def test_cards_are_those_that_are_named(prlm):
    result = prlm("plan", "--model", _MODEL, "--vram", "8gb", "--vram", "10", "--json", *_LONG)

    shown = json.loads(result.stdout)
    assert [card["bytes"] / 2**30 for card in shown["cards"]] == [8, 10]
    assert shown["parameters"] == 1_543_714_304
    assert shown["seconds"] is None


def test_a_plan_for_several_processes_says_so_and_what_each_of_them_takes(prlm):
    shared = ["--processes", "2", "--set", "policy.shard_base=true", "--set", "policy.prompts_per_step=4"]
    shown = json.loads(prlm("plan", "--model", _MODEL, "--json", *shared, *_LONG).stdout)
    text = prlm("plan", "--model", _MODEL, *shared, *_LONG).stdout

    assert shown["processes"] == 2
    assert {"whole layers"} <= shown["memory"]["cuda"]["phases"]["rollout"].keys()
    assert text.startswith(f"{_MODEL}, 1,544 M, each of 2 processes")


def test_fit_says_what_it_chose_and_plans_for_that(prlm):
    large = ["--set", "policy.gradient_checkpointing=off"]
    shown = json.loads(prlm("plan", "--model", _MODEL, "--fit", "8gb", "--json", *_LONG, *large).stdout)
    text = prlm("plan", "--model", _MODEL, "--fit", "8gb", *_LONG, *large).stdout

    assert shown["memory"]["cuda"]["peak"] <= 8 * 2**30
    assert any(setting.startswith("policy.micro_batch_tokens=") for setting in shown["settings"])
    assert f"chosen to fit: --set {shown['settings'][0]}" in text


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--vram", "big"], 2, "'big' is no size of a card; write it as 8gb"),
        (["--model", "nobody/nothing"], 3, "no configuration of the model 'nobody/nothing'"),
        (["--model", "Qwen/Qwen2.5-7B", "--fit", "8gb", *_LONG], 4, "8 are there; try --qlora or a smaller model"),
        (["--model", "Qwen/Qwen2.5-7B", "--calibrate"], 3, "is not here to calibrate with"),
    ],
    ids=["size", "model", "no fit", "calibration"],
)
def test_what_cannot_be_planned_is_one_line(prlm, arguments, code, message):
    result = prlm("plan", "--offline", *arguments)

    assert (result.exit_code, result.stdout) == (code, "")
    assert message in result.stderr and result.stderr.count("\n") == 1


def test_the_dry_run_of_train_policy_prints_the_plan_below_the_configuration(prlm, tmp_path):
    arguments = ["train-policy", "--model", _MODEL, "--dry-run", "-w", tmp_path / "w"]
    text = prlm(*arguments).stdout
    shown = json.loads(prlm(*arguments, "--json").stdout)

    assert text.startswith("seed = 0\n") and "\n# at its peak, GiB" in text
    assert tomllib.loads(text) == shown["config"]
    assert shown["config"]["model"]["name"] == _MODEL
    assert shown["plan"]["model"] == _MODEL
    assert not (tmp_path / "w").exists()


def test_train_policy_is_made_to_fit_the_device_that_it_runs_on(prlm):
    arguments = ["train-policy", "--model", "Qwen/Qwen2.5-0.5B", "--dry-run", "--json", *_LONG]

    policies = [json.loads(prlm(*arguments, *fit).stdout)["config"]["policy"] for fit in ([], ["--fit", "6gb"])]

    assert [policy["gradient_checkpointing"] for policy in policies] == ["auto", "on"]


def test_a_dry_run_without_a_plan_still_prints_the_configuration(prlm):
    result = prlm("train-policy", "--model", "nobody/nothing", "--dry-run", "--offline")

    assert result.exit_code == 0
    assert tomllib.loads(result.stdout)["model"]["name"] == "nobody/nothing"
    assert result.stderr.startswith("prlm: no plan: no configuration of the model 'nobody/nothing'")
