"""Training by two processes that exchange gradients over gloo, started as a user starts them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from subprocess import PIPE

import pytest
from safetensors.torch import load_file

from prlm_cli.core.workspace import Workspace
from prlm_cli.pipeline.train_policy import train_policy
from prlm_cli.pipeline.train_reward import train_reward
from tests.pipeline.observed import observations
from tests.pipeline.small import FEW, Notes, indexed, small

_PATIENCE = 300  # seconds
_ROOT = Path(__file__).parents[2]
_SETTINGS = (
    "policy.sampling=rows",
    "policy.steps=3",
    "policy.prompts_per_step=4",
    "policy.save_steps=2",
    "policy.eval_steps=2",
    'policy.rewards={"tests.rewards.functions:brevity"=1.0}',
    "policy.reward_model=none",
    "prompt.reasoning=off",
)
_TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc-per-node=2")
_ACCELERATE = ("accelerate.commands.launch", "--multi_gpu", "--num_machines=1", "--num_processes=2")
_OF_THE_MACHINE = {"seconds", "step_time", "tokens_per_second", "peak_memory_gb"}


@pytest.fixture(scope="module")
def lively_model(tiny_model, tmp_path_factory):
    """The tiny model with so many end tokens that its completions end."""
    folder = tmp_path_factory.mktemp("lively") / "model"
    shutil.copytree(tiny_model, folder)
    generation = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps(generation | {"eos_token_id": list(range(0, 258, 4))}))
    return folder


def launched(
    *arguments: str, module: str = "prlm_cli", launcher: Sequence[str] = _TORCHRUN, **variables: str
) -> subprocess.CompletedProcess[str]:
    """`prlm` started in two processes, with these variables in the environment."""
    environment = os.environ | {"PYTHONPATH": str(_ROOT), "OMP_NUM_THREADS": "1"} | variables
    command = [sys.executable, "-m", *launcher, "-m", module, *arguments]
    with subprocess.Popen(command, env=environment, stdout=PIPE, stderr=PIPE, text=True) as started:
        try:
            stdout, stderr = started.communicate(timeout=_PATIENCE)
        finally:
            started.terminate()  # not `kill`, after which its processes would go on
    return subprocess.CompletedProcess(command, started.returncode, stdout, stderr)


def settings_of(model: Path, *assignments: str) -> list[str]:
    sets = [f"model.name={model}", "model.lora_r=4", *FEW, *_SETTINGS, *assignments]
    return [part for assignment in sets for part in ("--set", assignment)]


def figures(run) -> list[dict[str, float]]:
    return [json.loads(line) for line in run.log.read_text().splitlines()]


def test_two_processes_train_what_one_trains(lively_model, workspace):
    settings = (
        "policy.micro_batch_tokens=1",  # a pass for each completion that is not cut: not equally many in both
        "policy.profile_noise=0.5",
        "policy.contrast=swapped",
        "policy.early_stop=9",
        "policy.eval_swapped=true",
        "policy.entropy_coef=0.1",
    )
    alone = train_policy(workspace, small(lively_model, *_SETTINGS, *settings), name="alone", reporter=Notes())
    shutil.rmtree(next(workspace.runs_folder.glob("warm-start-*")))

    arguments = ["-w", str(workspace.folder), "--name", "both", "--json", *settings_of(lively_model, *settings)]
    done = launched("train-policy", *arguments, launcher=_ACCELERATE)

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["run"] == "both"  # one of them speaks
    assert len(list(workspace.runs_folder.iterdir())) == 3  # and made one warm start
    assert any("heldout_swapped" in line for line in figures(alone))
    assert list(workspace.cache.glob("scratch-*")) == []
    check_same(Workspace(workspace.folder).finished_run("both", "policy"), alone)


def check_same(both, alone):
    """Two runs logged the same figures, and kept and ended with the same adapters."""
    check_figures(both, alone)
    assert all(line["grad_norm"] > 0 for line in figures(alone) if "grad_norm" in line)
    assert (both.metrics["best_step"], both.metrics["best_heldout"]) == (
        alone.metrics["best_step"],
        pytest.approx(alone.metrics["best_heldout"]),
    )
    for expected, found in ((alone.adapter, both.adapter), (alone.last, both.last)):
        assert difference(expected, found) < 1e-5


def check_figures(both, alone):
    """Two runs logged the same."""
    for ours, theirs in zip(figures(both), figures(alone), strict=True):
        for name in theirs.keys() - _OF_THE_MACHINE:  # and what the watchdog said, in words
            value = theirs[name]
            assert ours[name] == (value if isinstance(value, str) else pytest.approx(value, rel=1e-4, abs=1e-5)), name


def difference(*folders):
    """The largest between the weights of two adapters."""
    one, other = (load_file(folder / "adapter_model.safetensors") for folder in folders)
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def test_a_base_in_parts_trains_what_a_whole_one_trains_also_when_stopped_on_the_way(lively_model, workspace):
    reward = 'policy.rewards={"tests.rewards.functions:ending_the_second_process"=1.0}'
    settings = (
        reward,
        "policy.micro_batch_tokens=1",  # a pass for each completion that is not cut
        "policy.num_generations=4",
        "policy.gradient_checkpointing=on",
        "policy.beta=0.1",
    )
    alone = train_policy(workspace, small(lively_model, *_SETTINGS, *settings), name="alone", reporter=Notes())
    shutil.rmtree(next(workspace.runs_folder.glob("warm-start-*")))
    arguments = ["-w", str(workspace.folder), *settings_of(lively_model, *settings, "policy.shard_base=true")]

    stopped = launched("train-policy", "--quiet", *arguments)
    done = launched("train-policy", "--json", *arguments, module="tests.pipeline.observed", GOES_ON="1")

    assert stopped.returncode and said(stopped) == []
    assert done.returncode == 0, done.stderr
    both = Workspace(workspace.folder).finished_run(json.loads(done.stdout)["run"], "policy")
    assert "went on from step 1" in done.stderr
    check_same(both, alone)
    first, second = observations(done.stderr)
    assert first["of"] == second["of"] == first["held"] + second["held"]
    assert first["held"] == pytest.approx(first["of"] / 2, rel=0.1)
    assert first["own passes"] != second["own passes"]
    assert first["passes"] == second["passes"]


def test_a_process_out_of_memory_ends_all_that_share_a_base_and_says_what_to_lower(lively_model, workspace):
    settings = settings_of(lively_model, "policy.shard_base=true", "warm_start.kind=none", "policy.eval_queries=0")

    done = launched(
        "train-policy", "-w", str(workspace.folder), *settings, module="tests.pipeline.observed", OUT_OF_MEMORY="1"
    )

    (line,) = said(done)
    assert re.match(r"prlm: \d+ tokens of a pass do not fit into memory; .*: lower policy\.micro_batch_tokens$", line)


def test_a_signal_to_one_process_stops_all_and_one_process_alone_goes_on(lively_model, workspace):
    reward = 'policy.rewards={"tests.rewards.functions:ending_the_second_process"=1.0}'
    settings = (reward, "warm_start.kind=none", "policy.save_steps=100", "policy.eval_queries=0")
    config = small(lively_model, *_SETTINGS, *settings)
    unbroken = train_policy(workspace, config, name="unbroken", reporter=Notes())

    done = launched("train-policy", "-w", str(workspace.folder), *settings_of(lively_model, *settings))

    assert done.returncode
    assert said(done) == []
    (run,) = (run for run in workspace.runs() if not run.is_finished)
    assert [line["step"] for line in figures(run)] == [1]  # both finished the step
    reporter = Notes()
    resumed = train_policy(workspace, config, reporter=reporter)
    assert reporter.notes[-1] == "went on from step 1"
    assert difference(unbroken.adapter, resumed.adapter) < 1e-5


def said(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The lines of ours on stderr; a launcher has more to say."""
    return [line for line in done.stderr.splitlines() if line.startswith("prlm: ")]


def test_what_fails_in_one_process_ends_all_and_is_said_once(lively_model, workspace):
    reward = 'policy.rewards={"tests.rewards.functions:failing_in_the_second_process"=1.0}'
    settings = settings_of(lively_model, reward, "warm_start.kind=none", "policy.eval_queries=0")

    done = launched("train-policy", "-w", str(workspace.folder), "--quiet", *settings)

    (line,) = said(done)
    assert "bug (ZeroDivisionError in functions.py" in line


@pytest.mark.slow
def test_other_adapters_sit_on_a_base_in_parts_as_on_a_whole_one(lively_model, workspace):
    train_reward(workspace, small(lively_model), name="judge", reporter=Notes())
    plain = ("warm_start.kind=none", "policy.steps=1")
    train_policy(workspace, small(lively_model, *_SETTINGS, *plain), name="start", reporter=Notes())
    settings = (
        'policy.rewards={"tests.rewards.functions:brevity"=1.0,personalization=1.0}',
        "policy.reward_model=judge",
        "policy.start_from=start",
        "policy.beta=0.1",  # against a copy of the start's adapter
    )
    for name, shards in (("whole", "false"), ("parts", "true")):
        assignments = settings_of(lively_model, *settings, f"policy.shard_base={shards}")
        done = launched("train-policy", "-w", str(workspace.folder), "--force", "--name", name, *assignments)
        assert done.returncode == 0, done.stderr

    whole, parts = (Workspace(workspace.folder).finished_run(name, "policy") for name in ("whole", "parts"))
    assert all("rewards/personalization/mean" in line for line in figures(whole) if "loss" in line)
    check_same(parts, whole)


@pytest.mark.slow
@pytest.mark.parametrize("choice", ["skip", "resample"])
def test_two_processes_leave_out_and_replace_the_groups_that_one_would(lively_model, workspace, choice):
    reward = 'policy.rewards={"tests.rewards.functions:flat_for_some"=1.0}'
    settings = (
        reward,
        f"policy.zero_variance={choice}",
        "policy.loss_type=grpo",  # that of dapo has the same divisor in both anyway
        "policy.entropy_coef=0.1",
        "warm_start.kind=none",
        "policy.eval_queries=0",
    )
    alone = train_policy(workspace, small(lively_model, *_SETTINGS, *settings), name="alone", reporter=Notes())

    arguments = ["-w", str(workspace.folder), "--name", "both", *settings_of(lively_model, *settings)]
    done = launched("train-policy", *arguments)

    assert done.returncode == 0, done.stderr
    both = Workspace(workspace.folder).finished_run("both", "policy")
    check_figures(both, alone)
    counted = "zero_variance/skipped" if choice == "skip" else "zero_variance/resampled"
    assert any(line[counted] % 2 for line in figures(alone))  # no equal share of them in both
    assert difference(alone.adapter, both.adapter) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show"], "prlm: `prlm show` runs in one process; run it without the launcher; only train-policy"),
        (
            ["train-policy", "--set", "policy.prompts_per_step=3"],
            "cannot be split over 2 processes; use a multiple of 2",
        ),
        (["train-policy", "--set", "policy.prompts_per_step=2"], "prlm: no training queries; index"),
    ],
    ids=["another command", "an odd number of prompts", "what only the main process finds out"],
)
def test_what_all_processes_would_say_one_says(tmp_path, arguments, message):
    indexed(tmp_path, [{"user_id": "u", "doc_id": "d", "text": "no title"}])

    done = launched(arguments[0], "--quiet", "-w", str(tmp_path / "workspace"), *arguments[1:])

    assert done.returncode
    (line,) = said(done)
    assert message in line
