from __future__ import annotations

import json

import pytest

from prlm_cli.core.workspace import Workspace
from prlm_cli.pipeline.train_policy import train_policy
from tests.pipeline.small import small


@pytest.fixture
def trained(workspace, tiny_model):
    few = ("warm_start.kind=none", "policy.reward_model=none", "policy.eval_queries=0", "policy.steps=1")
    train_policy(Workspace(workspace), small(tiny_model, *few), name="mine")
    return workspace


def test_an_adapter_is_exported(prlm, trained, tmp_path, tiny_model):
    result = prlm("export", "mine", tmp_path / "out", "-w", trained)

    assert result == (0, "", f"prlm: {tmp_path / 'out'}: an adapter for {tiny_model}\n")
    assert (tmp_path / "out" / "adapter_model.safetensors").exists()


def test_merged_weights_say_how_near_they_are(prlm, trained, tmp_path):
    text = prlm("export", "mine", tmp_path / "one", "--merge", "-w", trained)
    shown = json.loads(prlm("export", "mine", tmp_path / "two", "--merge", "--json", "-w", trained).stdout)

    assert text.exit_code == 0 and "nats of the adapter's" in text.stderr
    assert shown["is_merged"] and shown["largest_difference"] < 1e-3


def test_an_unknown_run_is_one_line(prlm, workspace, tmp_path):
    result = prlm("export", "policy-9", tmp_path / "out", "-w", workspace)

    assert result == (2, "", f"prlm: no run 'policy-9' in {workspace}; there is none yet\n")
