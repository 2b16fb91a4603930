"""The training commands up to where training begins."""

from __future__ import annotations

import json
import tomllib

import pytest

from prlm_cli.core.workspace import Workspace
from tests.conftest import contents
from tests.models.tiny_encoders import write_cross_encoder

COMMANDS = pytest.mark.parametrize("command", ["train-policy", "train-reward"])


@COMMANDS
def test_a_dry_run_prints_the_configuration_and_changes_nothing(prlm, workspace, tmp_path, command):
    before = contents(tmp_path)
    result = prlm(command, "-w", workspace, "--dry-run", "--steps", "3", "--qlora", "--seed", "7")
    config = tomllib.loads(result.stdout)

    assert (result.exit_code, result.stderr) == (0, "")
    assert (config["seed"], config["model"]["qlora"]) == (7, True)
    assert config["policy" if command == "train-policy" else "reward"]["steps"] == 3
    assert contents(tmp_path) == before


@COMMANDS
def test_a_dry_run_without_a_workspace_makes_none(prlm, tmp_path, command):
    assert prlm(command, "--dry-run").exit_code == 0
    assert list(tmp_path.iterdir()) == []


def test_the_plan_of_a_dry_run_is_for_the_processes_that_were_launched(prlm, monkeypatch):
    shared = ("train-policy", "--dry-run", "--set", "policy.shard_base=true")
    alone = prlm(*shared)
    for name, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)

    assert "each of 2 processes" in prlm(*shared).stdout
    assert alone.stderr.startswith("prlm: no plan: policy.shard_base needs several processes; ")


def test_a_line_that_is_no_pair_is_named_and_nothing_is_written(prlm, workspace, write_jsonl):
    pairs = write_jsonl([{"user_id": "ada", "prompt": "trees", "chosen": "a", "rejected": "b"}, {"user_id": "ada"}])
    before = contents(workspace)
    result = prlm("train-reward", "--pairs", pairs, "-w", workspace)

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"prlm: {pairs}:2: no field 'text'; every given pair needs user_id, text, ")
    assert contents(workspace) == before


def test_a_named_reward_model_whose_gate_is_closed_is_refused(prlm, workspace):
    run = Workspace(workspace).new_run("reward", None)
    run.start("reward", "seed = 0\n")
    run.finish({"gate": "closed"})
    before = contents(workspace)
    result = prlm("train-policy", "--reward-model", "reward-1", "-w", workspace)

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("prlm: reward model 'reward-1' did not pass its gate; ")
    assert contents(workspace) == before


def test_pairs_of_ones_own_train_an_encoder_without_an_index(prlm, tmp_path, write_jsonl):
    profile = [{"doc_id": "1", "text": "red tree", "title": "tree"}]
    fields = {"kind": "given", "text": "a cat", "profile": profile, "chosen": "red cat", "rejected": "blue"}
    rows = [{**fields, "query_id": f"{user}{n}", "user_id": user} for user in ("ada", "ben") for n in range(3)]
    encoder = write_cross_encoder(tmp_path / "encoder")
    few = ["--steps", 1, "--model", encoder, "--set", "reward.twin=false", "--set", "reward.heldout_queries=0"]

    result = prlm("train-reward", "--pairs", write_jsonl(rows), *few, "-w", tmp_path / "w", "--json")

    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["training_pairs"] == 3
    (run,) = Workspace(tmp_path / "w").runs()
    assert (run.adapter / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rejected": "Red  CAT"}, "{data}: none of the 4 pairs has a contrast: its answers are equal; bring others"),
        ({"user_id": "ada"}, "a reward model needs two users: one to learn from, one to test on; index more users"),
    ],
    ids=["no contrast", "one user"],
)
def test_pairs_that_cannot_be_trained_on_are_one_line_and_nothing_is_written(
    prlm, tmp_path, write_jsonl, change, message
):
    fields = {"kind": "given", "text": "a cat", "profile": [], "chosen": "red cat", "rejected": "blue"}
    rows = [{**fields, "query_id": str(n), "user_id": f"u{n}"} | change for n in range(4)]

    data = write_jsonl(rows)
    result = prlm("train-reward", "--pairs", data, "-w", tmp_path / "w")

    assert result == (2, "", f"prlm: {message.format(data=data)}\n")
    assert not (tmp_path / "w").exists()
