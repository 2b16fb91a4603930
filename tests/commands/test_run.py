from __future__ import annotations

import json

from prlm_cli.core.configuration import to_toml
from tests.pipeline.small import small

_FEW = ("warm_start.kind=none", "policy.reward_model=none", "policy.eval_queries=0", "policy.steps=1")


def _recipe(folder, model, stages):
    path = folder / "recipe.toml"
    path.write_text(f"{to_toml(small(model, *_FEW))}\n[run]\nstages = {stages}\n")
    return path


def test_a_recipe_is_gone_through_and_its_scores_are_printed(prlm, workspace, tiny_model, tmp_path):
    recipe = _recipe(tmp_path, tiny_model, ["train-policy", "eval"])

    first, second = (prlm("run", recipe, "-w", workspace) for _ in range(2))

    assert first.exit_code == second.exit_code == 0, first.stderr
    assert "prlm: train-policy: policy-1\n" in first.stderr
    assert "prlm: train-policy: policy-1 from an earlier time\n" in second.stderr
    assert first.stdout.startswith("metric") and first.stdout == second.stdout


def test_json_lists_the_stages(prlm, workspace, tiny_model, tmp_path):
    recipe = _recipe(tmp_path, tiny_model, ["train-policy", "eval"])

    policy, scores = json.loads(prlm("run", recipe, "--json", "-w", workspace).stdout)

    assert policy == {"stage": "train-policy", "run": "policy-1", "is_new": True, "evaluation": None}
    assert scores["evaluation"]["n"] == 3


def test_from_begins_later_and_does_it_again(prlm, workspace, tiny_model, tmp_path):
    recipe = _recipe(tmp_path, tiny_model, ["train-policy", "eval"])
    prlm("run", recipe, "-w", workspace)

    result = prlm("run", recipe, "--from", "train-policy", "-w", workspace)

    assert "prlm: train-policy: policy-2\n" in result.stderr


def test_a_dry_run_prints_stages_settings_and_plan(prlm, workspace, tiny_model, tmp_path):
    result = prlm("run", _recipe(tmp_path, tiny_model, ["eval"]), "--dry-run", "-w", workspace)

    assert result.stdout.startswith("# stages: eval\nseed = 0\n")
    assert "at its peak, GiB" in result.stdout


def test_a_recipe_that_is_not_there_is_one_line(prlm, tmp_path):
    result = prlm("run", tmp_path / "none.toml")

    assert (result.exit_code, result.stdout) == (2, "")
    assert "no such file" in result.stderr and result.stderr.count("\n") == 1
