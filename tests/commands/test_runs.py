from __future__ import annotations

import io
import json

import pytest
import typer

from prlm_cli.core import workspace as module
from prlm_cli.core.workspace import Run, Workspace

GATE = {"gate": "open", "interaction": {"mean": 0.75, "low": 0.6}, "accuracy": {"swapped": {"mean": 0.8123456}}}


class Terminal(io.TextIOWrapper):
    def isatty(self):
        return True


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A workspace with a warm start, a reward model, and a policy that was interrupted."""
    minutes = iter(range(10, 60))
    monkeypatch.setattr(module, "_now", lambda: f"2024-01-01T00:{next(minutes)}:30+00:00")
    place = Workspace(tmp_path / ".prlm")
    start = Run(place.runs_folder / "warm-start-ab12")
    start.start("policy", "seed = 0\n", is_warm_start=True, trained_on=["u1", "u2"])
    start.finish({"steps": 60, "examples": 7})
    reward = place.new_run("reward", None)
    reward.start("reward", "seed = 1\n\n[reward]\nsteps = 40\n", data="abc")
    reward.finish(GATE)
    place.new_run("policy", "mine").start("policy", "seed = 2\n")
    return place


def test_runs_lists_the_oldest_first(prlm, place):
    result = prlm("runs")

    assert (result.exit_code, result.stderr) == (0, "")
    assert [line.split(maxsplit=1)[0] for line in result.stdout.splitlines()] == [
        "run",
        "warm-start-ab12",
        "reward-1",
        "mine",
    ]
    assert " ".join(result.stdout.splitlines()[1].split()) == (
        "warm-start-ab12 warm start finished 2024-01-01 00:10 examples 7"
    )
    assert " ".join(result.stdout.splitlines()[2].split()) == (
        "reward-1 reward finished 2024-01-01 00:12 gate open, interaction 0.75"
    )
    assert " ".join(result.stdout.splitlines()[3].split()) == "mine policy interrupted 2024-01-01 00:14"


def test_runs_as_json(prlm, place):
    warm_start, reward, policy = json.loads(prlm("runs", "--json").stdout)

    assert (warm_start["kind"], warm_start["facts"]["trained_on"]) == ("warm start", ["u1", "u2"])
    assert (reward["name"], reward["state"], reward["metrics"]) == ("reward-1", "finished", GATE)
    assert (policy["state"], policy["finished"], policy["metrics"]) == ("interrupted", None, {})


def test_a_run_whose_lock_is_held_is_running(prlm, place):
    with place.write_lock("mine"):
        assert json.loads(prlm("runs", "--json").stdout)[-1]["state"] == "running"

        result = prlm("runs", "rm", "mine", "--yes")

    assert (result.exit_code, result.stderr) == (5, "prlm: run 'mine' is being trained; end that first\n")
    assert place.run("mine").folder.exists()


@pytest.mark.parametrize(("flag", "stdout"), [([], ""), (["--json"], "[]\n")], ids=["table", "json"])
def test_runs_of_an_empty_workspace(prlm, flag, stdout):
    result = prlm("runs", *flag)

    assert (result.exit_code, result.stdout) == (0, stdout)


def test_runs_show_prints_state_metrics_and_configuration(prlm, place):
    result = prlm("runs", "show", "reward-1")
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]

    assert (result.exit_code, result.stderr) == (0, "")
    assert lines[:6] == [
        "run reward-1",
        "kind reward",
        "state finished",
        "started 2024-01-01 00:12",
        "finished 2024-01-01 00:13",
        "data abc",
    ]
    assert "accuracy.swapped.mean 0.8123" in lines
    assert result.stdout.endswith("\nseed = 1\n\n[reward]\nsteps = 40\n")


def test_runs_show_leaves_the_diagnostics_to_json(prlm, place):
    place.run("reward-1").finish(GATE | {"diagnostics": {"users": {"pairs": 1234}}})

    assert "1234" not in prlm("runs", "show", "reward-1").stdout
    assert "1234" in prlm("runs", "show", "reward-1", "--json").stdout


def test_runs_show_counts_users_instead_of_naming_them(prlm, place):
    stdout = prlm("runs", "show", "warm-start-ab12").stdout

    assert "2 users" in stdout
    assert "u1" not in stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["runs", "show", "reward-1", "-w", "elsewhere", "--json"],
        ["runs", "-w", "elsewhere", "--json", "show", "reward-1"],
    ],
    ids=["after", "before"],
)
def test_flags_stand_before_or_after_the_subcommand(prlm, place, arguments):
    place.folder.rename("elsewhere")

    shown = json.loads(prlm(*arguments).stdout)

    assert shown["config"] == {"seed": 1, "reward": {"steps": 40}}
    assert shown["folder"] == "elsewhere/runs/reward-1"


def test_the_workspace_may_come_from_the_environment(prlm, place, monkeypatch):
    place.folder.rename("elsewhere")
    monkeypatch.setenv("PRLM_WORKSPACE", "elsewhere")

    assert prlm("runs", "show", "mine").exit_code == 0


@pytest.mark.parametrize("command", ["show", "rm"])
def test_a_missing_run_is_an_error_that_names_the_nearest(prlm, place, command):
    result = prlm("runs", command, "reward-2")

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "prlm: no run 'reward-2' in .prlm; did you mean reward-1?\n"


def test_an_unknown_subcommand_is_a_usage_error(prlm):
    result = prlm("runs", "shw")

    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)


def test_runs_rm_removes_one_run(prlm, place):
    result = prlm("runs", "rm", "mine", "--yes")

    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "prlm: removed mine\n")
    assert [run.name for run in place.runs()] == ["warm-start-ab12", "reward-1"]


def test_runs_rm_as_json(prlm, place):
    assert json.loads(prlm("runs", "rm", "mine", "--yes", "--json").stdout) == {"removed": "mine"}


def test_runs_rm_removes_a_run_whose_state_is_damaged(prlm, place):
    (place.runs_folder / "mine" / "state.json").write_text("{")

    damaged = prlm("runs")

    assert (damaged.exit_code, damaged.stderr) == (0, "prlm: run mine is damaged; `prlm runs rm` removes it\n")
    assert prlm("runs", "rm", "mine", "--yes").exit_code == 0
    assert prlm("runs").exit_code == 0


def test_runs_rm_needs_yes_off_a_terminal(prlm, place):
    result = prlm("runs", "rm", "mine")

    assert (result.exit_code, result.stderr) == (2, "prlm: run 'mine' is not removed unasked; add --yes\n")
    assert place.run("mine").folder.exists()


@pytest.mark.parametrize(("answer", "code"), [(True, 0), (False, 1)], ids=["yes", "no"])
def test_runs_rm_asks_on_a_terminal(prlm, place, monkeypatch, answer, code):
    asked = []
    monkeypatch.setattr(io, "TextIOWrapper", Terminal)  # of which the fixture makes the standard input
    monkeypatch.setattr(typer, "confirm", lambda text, err: asked.append((text, err)) or answer)

    result = prlm("runs", "rm", "mine")

    assert result.exit_code == code
    assert asked == [("Remove .prlm/runs/mine with all that it holds?", True)]
    assert (place.runs_folder / "mine").exists() is not answer
