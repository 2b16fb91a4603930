"""Runs that were stopped, and what becomes of them, and of a name that is taken, when the command comes again."""

from __future__ import annotations

import json
from functools import partial
from itertools import count

import pytest
import torch
from safetensors.torch import load_file

from prlm_cli.core.errors import DataError, SettingsError
from prlm_cli.core.workspace import Run
from prlm_cli.pipeline import train_policy as module
from prlm_cli.pipeline.best_adapter import BestAdapter
from prlm_cli.pipeline.train_policy import train_policy
from tests.conftest import contents
from tests.killed import killed_at_operation
from tests.pipeline.policy_runs import NO_REWARD_MODEL, interrupt, plain
from tests.pipeline.small import Notes


def test_killed_between_any_two_steps_on_the_disk_the_best_adapter_is_the_one_that_is_named(tmp_path, monkeypatch):
    def save(folder):
        folder.mkdir(exist_ok=True)
        for name in ("a", "b"):
            (folder / name).write_text(folder.name)

    for operation in count():
        run = Run(tmp_path / str(operation))
        run.folder.mkdir()
        best = BestAdapter(run)
        best.offer(0, 0.1, save)
        killed = killed_at_operation(operation, monkeypatch, partial(best.offer, 4, 0.2, save))
        step = best.as_dict()["best_step"]
        assert [(best.adapter / name).read_text() for name in ("a", "b")] == [f"best-{step}"] * 2
        if not killed:
            break
        best.offer(8, 0.3, save)
        assert [path.name for path in run.folder.glob("best-*")] == ["best-8"]

    assert operation > 4 and step == 4


def test_what_was_logged_after_the_checkpoint_is_dropped_where_a_run_goes_on(tmp_path):
    run = Run(tmp_path)
    run.rewind_log(3)
    assert not run.log.exists()
    for step in (0, 1, 1, 2, 3):
        run.append_log({"step": step})
    with run.log.open("a") as stream:
        stream.write('{"step": 4, "los')

    run.rewind_log(2)

    assert run.log.read_text() == '{"step": 0}\n{"step": 1}\n{"step": 1}\n{"step": 2}\n'
    run.rewind_log(0)
    assert run.log.read_text() == ""


def test_never_to_resume_is_to_begin_anew_and_leaves_the_interrupted_run(tiny_model, workspace, lively, monkeypatch):
    config = plain(tiny_model, "policy.steps=3", "policy.save_steps=1", "policy.eval_queries=0")
    interrupt(workspace, config, monkeypatch)
    interrupted, reporter = contents(workspace.run("policy-1").folder), Notes()

    run = train_policy(workspace, config, resume=False, reporter=reporter)

    assert (run.name, run.is_finished, reporter.notes) == ("policy-2", True, NO_REWARD_MODEL)
    assert [json.loads(line)["step"] for line in run.log.read_text().splitlines()] == [1, 2, 3]
    assert contents(workspace.run("policy-1").folder) == interrupted
    with pytest.raises(DataError, match=r"run 'policy-1' exists"):
        train_policy(workspace, config, name="policy-1", resume=False)


def test_an_interrupted_run_goes_on_and_ends_like_an_unbroken_one(tiny_model, workspace, lively, monkeypatch):
    config = plain(tiny_model, "policy.steps=3", "policy.save_steps=1", "policy.eval_queries=0")
    unbroken = train_policy(workspace, config, name="unbroken")
    interrupt(workspace, config, monkeypatch)
    reporter = Notes()
    run = train_policy(workspace, config, reporter=reporter)

    assert (run.name, run.is_finished) == ("policy-1", True)
    assert reporter.notes[-2:] == ["going on with run policy-1", "went on from step 1"]
    expected, found = (load_file(r.adapter / "adapter_model.safetensors") for r in (unbroken, run))
    assert all(torch.allclose(found[name], expected[name], atol=1e-6) for name in expected)


def test_an_interrupted_run_that_needs_force_goes_on_too(tiny_model, workspace, trained, reward_model, monkeypatch):
    reward_model(workspace, "mine", "closed")
    config, reporter = plain(tiny_model, "policy.reward_model=mine"), Notes()
    with monkeypatch.context() as patch:
        patch.setattr(module, "_train", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train_policy(workspace, config, force=True)

    assert train_policy(workspace, config, force=True, reporter=reporter).name == "policy-1"
    assert reporter.notes == ["going on with run policy-1"]


def test_force_replaces_a_finished_run_of_that_name(tiny_model, workspace, trained):
    train_policy(workspace, plain(tiny_model), name="mine")
    with pytest.raises(DataError, match=r"run 'mine' exists"):
        train_policy(workspace, plain(tiny_model), name="mine")

    assert "seed = 1" in train_policy(workspace, plain(tiny_model, "seed=1"), name="mine", force=True).config


def test_a_run_of_the_same_name_but_other_settings_is_refused(tiny_model, workspace, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(module, "_train", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train_policy(workspace, plain(tiny_model), name="mine")

    with pytest.raises(SettingsError, match=r"run 'mine' was started with seed = 0"):
        train_policy(workspace, plain(tiny_model, "seed=1"), name="mine")
