from __future__ import annotations

import contextlib
import os
import pickle
import shutil
from functools import partial
from itertools import count

import pytest
import torch
from transformers import TrainerCallback, TrainerState, TrainingArguments

from prlm_cli.core.errors import StorageError
from prlm_cli.core.reporting import Silent
from prlm_cli.core.settings import WarmStartSettings
from prlm_cli.training.checkpoints import SealCheckpoints, is_complete, newest_complete, seal, step_of
from prlm_cli.training.completion_trainer import Example
from prlm_cli.training.supervised import train_supervised
from tests.killed import killed_at_operation
from tests.training.grpo_runs import train as train_grpo
from tests.training.tiny import largest_difference, trainable, weights_of

_PICKLES = {"optimizer.pt", "scheduler.pt", "rng_state.pth"}  # the trainer's own, read with weights only
_EXAMPLES = [Example([65 + n] * (4 + n), [97 + n, 98, 257]) for n in range(7)]


class Killed(Exception):
    """The process went away in the middle of a step."""


def train(model, tokenizer, folder, *, steps=4, killed_at=None):
    """Saves after each step; `killed_at` a step, before it is saved."""

    def log(figures):
        if figures["step"] == killed_at:
            raise Killed

    train_supervised(
        model,
        tokenizer,
        _EXAMPLES,
        WarmStartSettings(steps=steps, batch_size=2, learning_rate=1e-2),
        seed=0,
        checkpoints=folder,
        stage=Silent().stage("test"),
        log=log,
    )


@pytest.fixture(scope="module")
def written(tiny_model, tmp_path_factory):
    """The checkpoints of a run of four steps, as they were written."""
    folder = tmp_path_factory.mktemp("run") / "checkpoints"
    train(*trainable(tiny_model), folder)
    return folder


@pytest.fixture
def checkpoints(written, tmp_path):
    return shutil.copytree(written, tmp_path / "checkpoints")


def _break(path, how):
    if how == "removed":
        path.unlink()
    elif how == "halved":
        os.truncate(path, path.stat().st_size // 2)
    else:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)


@pytest.mark.parametrize("how", ["removed", "halved", "one bit flipped"])
def test_of_a_checkpoint_that_is_not_whole_the_one_before_is_used(written, tmp_path, how):
    names = [path.relative_to(written) for path in (written / "checkpoint-4").rglob("*") if path.stat().st_size]
    assert len(names) >= 6
    for number, name in enumerate(names):
        folder = shutil.copytree(written, tmp_path / str(number))
        if how == "one bit flipped" and name.name == "manifest.json":
            continue  # is either unreadable or names another hash; halved and removed cover it
        _break(folder / name, how)

        assert newest_complete(folder) == folder / "checkpoint-3", name


def test_the_newest_whole_checkpoint_is_used(checkpoints):
    assert newest_complete(checkpoints) == checkpoints / "checkpoint-4"


def test_the_newest_is_by_number_and_not_by_name(tmp_path):
    for step in (9, 10, 100):
        (tmp_path / f"checkpoint-{step}").mkdir()
        seal(tmp_path / f"checkpoint-{step}")

    assert step_of(newest_complete(tmp_path)) == 100


def test_without_a_whole_checkpoint_there_is_none(checkpoints):
    for path in checkpoints.iterdir():
        (path / "manifest.json").unlink()

    assert newest_complete(checkpoints) is None
    assert newest_complete(checkpoints / "nowhere") is None


@pytest.mark.parametrize("text", ["", "[]", "null", '{"a": 1}', '{"a": [1]}', '{"optimizer.pt": null}', "\x00\xff"])
def test_a_manifest_of_another_form_makes_no_checkpoint_whole(checkpoints, text):
    (checkpoints / "checkpoint-4" / "manifest.json").write_text(text)

    assert newest_complete(checkpoints) == checkpoints / "checkpoint-3"


def test_the_last_two_are_kept(written):
    assert sorted(path.name for path in written.iterdir()) == ["checkpoint-3", "checkpoint-4"]


def test_an_old_checkpoint_goes_only_when_two_whole_ones_are_there(tmp_path):
    arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    for step in (1, 2, 3, 4):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "weights").write_text(str(step))
    for step in (1, 2):
        seal(tmp_path / f"checkpoint-{step}")

    SealCheckpoints().on_save(arguments, TrainerState(global_step=4), None)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-2", "checkpoint-4"]


def test_killed_between_any_two_steps_on_the_disk_a_whole_checkpoint_is_left(tmp_path, monkeypatch):
    state, callback = TrainerState(global_step=3), SealCheckpoints()
    for operation in count():
        folder = tmp_path / str(operation)
        arguments = TrainingArguments(output_dir=str(folder), use_cpu=True)
        for step in (1, 2, 3):
            _write(folder, step)
        for step in (1, 2):
            seal(folder / f"checkpoint-{step}")
        killed = killed_at_operation(operation, monkeypatch, partial(callback.on_save, arguments, state, None))
        assert step_of(newest_complete(folder)) in (2, 3)
        if not killed:
            break
        killed_at_operation(operation % 5, monkeypatch, partial(callback.on_train_begin, arguments, state, None))
        assert step_of(newest_complete(folder)) in (2, 3)
        callback.on_train_begin(arguments, state, None)
        assert all(is_complete(path) for path in folder.iterdir())

    assert operation > 10
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoint-2", "checkpoint-3"]


def _write(folder, step):
    """The files of a checkpoint that is not complete yet."""
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    for name in ("adapter_model.safetensors", "optimizer.pt", "training_args.bin"):
        (path / name).write_text(f"{name} of step {step}")


def test_what_was_left_half_written_goes_before_the_training(written, tmp_path):
    folder = shutil.copytree(written, tmp_path / "checkpoints")
    (folder / "checkpoint-4" / "manifest.json").unlink()

    SealCheckpoints().on_train_begin(
        TrainingArguments(output_dir=str(folder), use_cpu=True), TrainerState(global_step=3), None
    )

    assert [path.name for path in folder.glob("checkpoint-*")] == ["checkpoint-3"]


class Bomb:
    """What must not be unpickled: it leaves a file behind."""

    def __init__(self, trace):
        self._trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self._trace),)


@pytest.mark.parametrize("name", sorted(_PICKLES | {"training_args.bin"}))
def test_what_a_pickle_asks_for_is_not_done(tiny_model, checkpoints, tmp_path, name):
    torch.save(Bomb(tmp_path / "trace"), checkpoints / "checkpoint-4" / name)
    if name in _PICKLES:
        seal(checkpoints / "checkpoint-4")  # somebody who can write the one can write the other

    refused = pytest.raises(pickle.UnpicklingError) if name in _PICKLES else contextlib.nullcontext()
    with refused:
        train(*trainable(tiny_model), checkpoints, steps=5)
    assert not (tmp_path / "trace").exists()


def test_a_disk_that_is_full_is_a_storage_error(tmp_path, monkeypatch):
    def full(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("prlm_cli.training.checkpoints.seal", full)
    with pytest.raises(StorageError, match=r"No space left on device; free some space"):
        SealCheckpoints().on_save(
            TrainingArguments(output_dir=str(tmp_path), use_cpu=True), TrainerState(global_step=1), None
        )


def test_no_pickle_is_kept_that_resuming_does_not_need(written):
    for folder in written.iterdir():
        names = {path.name for path in folder.rglob("*")}
        assert "training_args.bin" not in names
        assert {n for n in names if n.endswith((".bin", ".pt", ".pth", ".pkl", ".pickle"))} == _PICKLES
        assert "adapter_model.safetensors" in names
        assert is_complete(folder)


@pytest.mark.parametrize("passed", [2, 4, 6, 8], ids=lambda step: f"went on from step {step}")
def test_a_supervised_run_that_was_killed_goes_on_as_if_it_had_not_been(tiny_model, tmp_path, passed):
    """Also within a later pass over the examples, of which there are enough for three steps and a half."""
    unbroken, tokenizer = trainable(tiny_model)
    train(unbroken, tokenizer, tmp_path / "unbroken", steps=9)
    with pytest.raises(Killed):
        train(*trainable(tiny_model), tmp_path / "broken", steps=9, killed_at=passed + 1)
    assert step_of(newest_complete(tmp_path / "broken")) == passed

    resumed, _ = trainable(tiny_model)
    train(resumed, tokenizer, tmp_path / "broken", steps=9)

    assert largest_difference(weights_of(resumed), weights_of(unbroken)) < 1e-6


class KillAt(TrainerCallback):
    def __init__(self, step):
        self._step = step

    def on_step_begin(self, args, state, control, **_):
        if state.global_step == self._step:
            raise Killed


@pytest.mark.parametrize(
    "fields", [{}, {"micro_batch_tokens": 20}, {"beta": 0.1}], ids=["plain", "micro batches", "KL term"]
)
def test_a_grpo_run_that_was_killed_goes_on_as_if_it_had_not_been(tiny_model, tmp_path, fields):
    few = {"steps": 4, "save_steps": 2} | fields
    unbroken, tokenizer = trainable(tiny_model)
    assert train_grpo(unbroken, tokenizer, tmp_path / "unbroken", **few) == 0
    with pytest.raises(Killed):
        train_grpo(*trainable(tiny_model), tmp_path / "broken", callbacks=[KillAt(2)], **few)

    resumed, _ = trainable(tiny_model)

    assert train_grpo(resumed, tokenizer, tmp_path / "broken", **few) == 2
    assert largest_difference(weights_of(resumed), weights_of(unbroken)) < 1e-6


def test_a_run_that_was_killed_after_its_last_step_trains_no_further(tiny_model, tmp_path):
    unbroken, tokenizer = trainable(tiny_model)
    train(unbroken, tokenizer, tmp_path / "run", steps=3)  # in the middle of a pass over the examples

    again, _ = trainable(tiny_model)
    train(again, tokenizer, tmp_path / "run", steps=3)

    assert largest_difference(weights_of(again), weights_of(unbroken)) == 0


def test_a_grpo_run_that_was_killed_after_its_last_step_trains_no_further(tiny_model, tmp_path):
    unbroken, tokenizer = trainable(tiny_model)
    train_grpo(unbroken, tokenizer, tmp_path)

    again, _ = trainable(tiny_model)

    assert train_grpo(again, tokenizer, tmp_path) == 2
    assert largest_difference(weights_of(again), weights_of(unbroken)) == 0
