from __future__ import annotations

import shutil

import pytest
from msgspec import structs

from prlm_cli.core.configuration import to_toml
from prlm_cli.core.errors import SettingsError
from prlm_cli.core.reporting import Silent
from prlm_cli.pipeline import run as module
from prlm_cli.pipeline.run import load_recipe, run
from tests.pipeline.small import Notes, indexed, small

_FEW = ("warm_start.kind=none", "policy.eval_queries=0", "policy.steps=1", "reward.twin=false")


@pytest.fixture
def workspace(tmp_path):
    return indexed(tmp_path)


def _write(path, model, stages, *assignments):
    path.write_text(f"{to_toml(small(model, *_FEW, *assignments))}\n[run]\nstages = {stages}\n")
    return load_recipe(path)


def _trained(workspace):
    return [found.name for found in workspace.runs() if found.is_finished]


def _go(workspace, recipe, **options):
    return run(workspace, recipe, reporter=Silent(), **options)


def test_the_stages_are_gone_through_in_order_and_the_policy_is_scored(tiny_model, workspace, tmp_path):
    recipe = _write(tmp_path / "r.toml", tiny_model, ["train-reward", "train-policy", "eval"])

    seen = []
    done = _go(workspace, recipe, on_done=seen.append)

    assert [(one.stage, one.run) for one in done] == [
        ("train-reward", "reward-1"),
        ("train-policy", "policy-1"),
        ("eval", None),
    ]
    assert seen == done
    assert done[2].evaluation and done[2].evaluation.n == 3
    assert done[2].evaluation.policies == ["policy-1"]


def test_what_is_done_is_not_done_again_until_a_setting_changes(tiny_model, workspace, tmp_path):
    path = tmp_path / "r.toml"
    _go(workspace, _write(path, tiny_model, ["train-policy"]))

    again = _go(workspace, load_recipe(path))
    changed = _go(workspace, _write(path, tiny_model, ["train-policy"], "seed=1"))

    assert [(one.run, one.is_new) for one in (*again, *changed)] == [("policy-1", False), ("policy-2", True)]


def test_what_was_trained_on_other_records_is_done_again(tiny_model, workspace, tmp_path):
    recipe = _write(tmp_path / "r.toml", tiny_model, ["train-reward", "train-policy"])
    _go(workspace, recipe)
    with workspace.open_store(create=True) as store:
        user = store.users()[0]
        document = store.documents(user)[0]
        store.add_documents([structs.replace(document, doc_id="older", title="an older one", date="1970-01-01")])
    reporter = Notes()

    again = run(workspace, recipe, reporter=reporter)

    assert [(one.run, one.is_new) for one in again] == [("reward-2", True), ("policy-2", True)]
    assert any("reward-1 was trained on has changed" in note for note in reporter.notes)
    assert [one.is_new for one in _go(workspace, recipe)] == [False, False]


def test_from_does_again_what_is_done(tiny_model, workspace, tmp_path):
    recipe = _write(tmp_path / "r.toml", tiny_model, ["train-policy"])
    _go(workspace, recipe)

    assert _go(workspace, load_recipe(recipe.path, "train-policy"), again=True)[0].run == "policy-2"


def test_a_run_that_was_removed_is_done_again(tiny_model, workspace, tmp_path):
    recipe = _write(tmp_path / "r.toml", tiny_model, ["train-policy"])
    _go(workspace, recipe)
    workspace.remove(workspace.run("policy-1"))

    assert _go(workspace, recipe)[0].is_new


def test_a_lost_or_damaged_cache_only_means_to_train_again(tiny_model, workspace, tmp_path):
    recipe = _write(tmp_path / "r.toml", tiny_model, ["train-policy"])
    _go(workspace, recipe)
    (workspace.cache / "recipes.json").write_text("{")

    assert _go(workspace, recipe)[0].run == "policy-2"


def test_the_configuration_of_a_run_repeats_that_run(tiny_model, workspace, tmp_path):
    first = _go(workspace, _write(tmp_path / "r.toml", tiny_model, ["train-policy"]))[0]
    stored = workspace.run(first.run).folder / "config.toml"

    recipe = load_recipe(stored)
    second = _go(workspace, recipe)[0]

    assert recipe.stages == ["train-policy"]
    assert second.run == "policy-2"
    assert workspace.run("policy-2").config == workspace.run("policy-1").config
    weights = [(workspace.run(name).adapter / "adapter_model.safetensors").read_bytes() for name in _trained(workspace)]
    assert weights[0] == weights[1]


def test_a_broken_off_recipe_goes_on_with_its_next_stage(tiny_model, workspace, tmp_path, monkeypatch):
    recipe = _write(tmp_path / "r.toml", tiny_model, ["train-reward", "train-policy"])

    def stop(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "train_policy", stop)
        with pytest.raises(KeyboardInterrupt):
            _go(workspace, recipe)

    assert [(one.run, one.is_new) for one in _go(workspace, recipe)] == [("reward-1", False), ("policy-1", True)]


def test_without_a_table_of_its_own_a_recipe_has_all_stages(tmp_path):
    (tmp_path / "r.toml").write_text("seed = 3\n")

    recipe = load_recipe(tmp_path / "r.toml")

    assert (recipe.config.seed, recipe.stages) == (3, ["train-reward", "train-policy", "eval"])
    assert load_recipe(tmp_path / "r.toml", "train-policy").stages == ["train-policy", "eval"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[run]\nstages = ["eval", "train-policy"]', "run.stages: expected some of train-reward, train-policy, eval"),
        ("[run]\nstages = []", "run.stages: expected some of"),
        ('[run]\nstages = ["cook"]', "run.stages: expected some of"),
        ("[run]\nstage = 1", "unknown key run.stage"),
        ("run = 3", "run: expected a table"),
        ("[policy]\nstep = 1", "unknown key policy.step"),
    ],
)
def test_a_wrong_recipe_is_one_line(tmp_path, text, message):
    (tmp_path / "r.toml").write_text(text)

    with pytest.raises(SettingsError) as error:
        load_recipe(tmp_path / "r.toml")

    assert message in str(error.value)


def test_a_stage_that_the_recipe_has_not_is_an_error(tmp_path):
    (tmp_path / "r.toml").write_text('[run]\nstages = ["train-policy"]\n')

    with pytest.raises(SettingsError, match="has no such stage; known: train-policy"):
        load_recipe(tmp_path / "r.toml", "eval")


def test_a_stored_configuration_that_was_copied_away_is_a_recipe(tiny_model, workspace, tmp_path):
    done = _go(workspace, _write(tmp_path / "r.toml", tiny_model, ["train-policy"]))[0]
    shutil.copyfile(workspace.run(done.run).folder / "config.toml", tmp_path / "config.toml")

    assert not load_recipe(tmp_path / "config.toml").is_stored_run
