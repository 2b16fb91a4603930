"""The training commands up to where training begins."""

from __future__ import annotations

import tomllib

import pytest

from prlm_cli.core.workspace import Workspace
from tests.conftest import contents

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
