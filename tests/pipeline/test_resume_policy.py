"""A policy's training that is killed, and killed again, ends where one ends that nobody kills."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import time
import zlib
from functools import partial
from typing import NamedTuple

import pytest
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from prlm_cli.core.workspace import Workspace
from prlm_cli.pipeline import train_policy as module
from prlm_cli.training.checkpoints import is_complete, newest_complete, step_of
from tests.pipeline.small import indexed
from tests.processes import start_prlm
from tests.training.tiny import largest_difference

_SAVE_STEPS = 2
_SETTINGS = {
    "model.lora_r": 4,
    "prompt.layout": "completion",
    "prompt.reasoning": "off",
    "prompt.max_tokens": 200,
    "generation.max_new_tokens": 6,
    "pairs.policy": "none",
    "pairs.max_queries": 4,
    "reward.steps": 2,
    "reward.batch_size": 2,
    "reward.max_tokens": 200,
    "reward.twin": "false",
    "warm_start.steps": 4,
    "warm_start.batch_size": 2,
    "policy.steps": 8,
    "policy.num_generations": 4,
    "policy.max_new_tokens": 6,
    "policy.temperature": 1.0,
    "policy.learning_rate": 3e-2,
    "policy.save_steps": _SAVE_STEPS,
    "policy.eval_steps": 1,
    "policy.eval_queries": 2,
    "policy.rewards": '{overlap=1.0, "tests.rewards.functions:brevity"=1.0, personalization=1.0}',
    "policy.normalise": '{personalization="running"}',
}
_SAME = ("reward", "reward_std", "heldout", "loss", "grad_norm", "learning_rate", "entropy", "completions/mean_length")
_ENDED = {signal.SIGKILL: -signal.SIGKILL, signal.SIGTERM: 143, signal.SIGINT: 130}


class Kill(NamedTuple):
    """A signal, so many seconds after a line is logged or a checkpoint begun, the how many'th of this process."""

    number: signal.Signals
    event: str
    count: int
    delay: float


def judge_by_every_letter():
    """Scores that change with every letter: all that a random model answers scores 0."""

    def score(policy, queries, config):
        answers = "".join(g.completion for g in module.generate(queries, policy, config, temperature=0.0))
        return [1 - zlib.crc32(answers.encode()) / 2**32]

    module._overlaps = score


def limit_files(size):
    """While it trains, no file grows beyond so many bytes: the kernel refuses what is written, as on a full disk."""
    judge_by_every_letter()
    train = module._train

    def limited(*given):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        train(*given)

    module._train = limited


class Place(NamedTuple):
    """A workspace and the settings of what is trained there."""

    workspace: Workspace
    arguments: list[str]

    @property
    def run(self):
        return self.workspace.run("policy-1")

    @property
    def output(self):
        return self.workspace.folder / "output"

    def start(self, command="train-policy", before=judge_by_every_letter):
        return start_prlm([command, "-w", str(self.workspace.folder), *self.arguments], self.output, before)

    def run_to_the_end(self, *command, **options):
        process = self.start(*command, **options)
        process.join()
        return process.exitcode

    def finish(self, *command):
        assert self.run_to_the_end(*command) == 0, self.output.read_text()

    def copy(self, folder):
        shutil.copytree(self.workspace.folder, folder)
        return self._replace(workspace=Workspace(folder))

    def seen(self, event):
        """How many lines were logged; or the step of the newest checkpoint, whole or not."""
        folder = self.workspace.runs_folder / "policy-1"
        if event == "line":
            return (folder / "log.jsonl").read_bytes().count(b"\n") if (folder / "log.jsonl").exists() else 0
        return max((step_of(path) for path in folder.glob("checkpoints/checkpoint-*")), default=0)


@pytest.fixture(scope="module")
def lively_model(tiny_model, tmp_path_factory):
    """The tiny model, but surer of what it writes, and with more tokens that end an answer."""
    folder = shutil.copytree(tiny_model, tmp_path_factory.mktemp("model") / "model")
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    model.get_input_embeddings().weight.data *= 10
    model.generation_config.eos_token_id = [*range(94, 256, 2), 256, 257]
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def place(lively_model, tmp_path_factory):
    """A workspace with a reward model."""
    settings = [word for name, value in _SETTINGS.items() for word in ("--set", f"{name}={value}")]
    found = Place(indexed(tmp_path_factory.mktemp("place")), ["--model", str(lively_model), *settings])
    found.finish("train-reward")
    return found._replace(arguments=[*found.arguments, "--force"])  # its gate is closed


@pytest.fixture(scope="module")
def unbroken(place, tmp_path_factory):
    """The run that nobody kills."""
    found = place.copy(tmp_path_factory.mktemp("unbroken") / "workspace")
    found.finish()
    return found.run


def _figures(run):
    """What was logged, without the times."""
    return [
        {name: line[name] for name in ("step", *_SAME) if name in line}
        for line in map(json.loads, run.log.read_text().splitlines())
    ]


def _assert_same(run, expected):
    last, expected_last = newest_complete(run.checkpoints), newest_complete(expected.checkpoints)
    assert last.name == expected_last.name == "checkpoint-8"
    for folder, expected_folder in ((run.adapter, expected.adapter), (last, expected_last)):
        weights, expected_weights = (load_file(f / "adapter_model.safetensors") for f in (folder, expected_folder))
        assert largest_difference(weights, expected_weights) < 1e-6
    assert run.metrics == pytest.approx(expected.metrics, abs=1e-6)
    assert len(_figures(run)) == len(_figures(expected))  # no step is in the log twice
    for found, wanted in zip(_figures(run), _figures(expected), strict=True):
        assert found == pytest.approx(wanted, abs=1e-6)
    assert all(is_complete(path) for path in run.checkpoints.glob("checkpoint-*"))


def _kill(place, kill):
    """Trains until the signal; whether it came before the end."""
    process, before = place.start(), place.seen(kill.event)
    while process.is_alive() and place.seen(kill.event) < before + kill.count:
        time.sleep(0.001)
    time.sleep(kill.delay)
    if not process.is_alive():
        assert process.exitcode == 0
        return False
    os.kill(process.pid, kill.number)
    process.join()
    assert process.exitcode in (0, _ENDED[kill.number], -kill.number)  # outside of the training nobody takes a SIGTERM
    return process.exitcode != 0


def _assert_little_lost(place):
    logged = max((line["step"] for line in _figures(place.run)), default=0)
    kept = newest_complete(place.run.checkpoints)
    assert logged - (step_of(kept) if kept else 0) <= _SAVE_STEPS


def test_the_unbroken_run_learns_and_its_best_adapter_is_not_the_last(unbroken):
    steps = [line for line in _figures(unbroken) if "loss" in line]
    assert [line["step"] for line in steps] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert sum(line["grad_norm"] > 0 for line in steps) >= 6
    assert 0 < unbroken.metrics["best_step"] < 8


def test_a_killed_training_ends_like_an_unbroken_one(place, unbroken, tmp_path):
    broken = place.copy(tmp_path / "workspace")
    for kill in (
        Kill(signal.SIGKILL, "checkpoint", 2, 0.005),
        Kill(signal.SIGTERM, "line", 3, 0.0),
        Kill(signal.SIGINT, "line", 2, 0.05),
    ):
        assert _kill(broken, kill)
        _assert_little_lost(broken)
    broken.finish()

    _assert_same(broken.run, unbroken)


_SIZES = {"the optimiser": 50_000, "an adapter": 20_000, "the log": 2_500}


@pytest.mark.parametrize(
    "what", [pytest.param(what, marks=[pytest.mark.slow] if number else []) for number, what in enumerate(_SIZES)]
)
def test_a_disk_that_gets_full_is_one_line_and_costs_no_checkpoint(place, unbroken, tmp_path, what):
    broken = place.copy(tmp_path / "workspace")
    assert _kill(broken, Kill(signal.SIGTERM, "line", 5, 0.0))
    kept = newest_complete(broken.run.checkpoints)
    broken.output.unlink()

    assert broken.run_to_the_end(before=partial(limit_files, _SIZES[what])) == 5
    *_, line = broken.output.read_text().splitlines()
    assert line.startswith("prlm: ") and "; free some space" in line
    assert newest_complete(broken.run.checkpoints) == kept
    broken.finish()

    _assert_same(broken.run, unbroken)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_a_training_may_be_killed_at_any_moment(place, unbroken, tmp_path, seed):
    """Twenty kills over all seeds."""
    rng, killed, number = random.Random(seed), 0, 0
    while killed < 4:
        broken = place.copy(tmp_path / f"workspace-{number}")
        number += 1
        while killed < 4 and _kill(broken, _any_kill(rng)):
            killed += 1
        broken.finish()
        _assert_same(broken.run, unbroken)


def _any_kill(rng):
    number = rng.choice(list(_ENDED))
    if rng.random() < 0.5:
        return Kill(number, "checkpoint", 1, rng.uniform(0, 0.03))
    return Kill(number, "line", rng.randint(0, 5), rng.uniform(0, 0.3))
