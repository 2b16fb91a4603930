from __future__ import annotations

import tomllib

import pytest


def _resolved(prlm, *args):
    result = prlm("train-policy", "--dry-run", *args)
    assert (result.exit_code, result.stderr) == (0, "")
    return tomllib.loads(result.stdout)


def test_a_typed_flag_wins_over_set_and_the_file_even_where_it_is_the_default(prlm, tmp_path):
    file = tmp_path / "my.toml"
    file.write_text("[retrieval]\nk = 9\n\n[policy]\nsteps = 5\n")

    assert _resolved(prlm, "--config", file)["retrieval"]["k"] == 9
    assert _resolved(prlm, "--config", file, "--set", "retrieval.k=7")["retrieval"]["k"] == 7
    assert _resolved(prlm, "--config", file, "--set", "retrieval.k=7", "-k", "4")["retrieval"]["k"] == 4
    assert _resolved(prlm, "--config", file)["policy"]["steps"] == 5


def test_a_flag_that_is_not_typed_leaves_the_preset(prlm):
    assert _resolved(prlm, "--preset", "paper")["policy"]["num_generations"] == 4
    assert _resolved(prlm, "--preset", "paper", "--num-generations", "8")["policy"]["num_generations"] == 8


def test_a_switch_can_be_turned_off_again(prlm, tmp_path):
    file = tmp_path / "my.toml"
    file.write_text("[model]\nqlora = true\n")

    assert _resolved(prlm, "--config", file)["model"]["qlora"] is True
    assert _resolved(prlm, "--config", file, "--no-qlora")["model"]["qlora"] is False


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["-k", "-1"], "retrieval.k: expected an integer of at least 0"),
        (["--num-generations", "1"], "policy.num_generations: expected an integer of at least 2"),
        (["--set", "policy.steps=0"], "--set policy.steps: expected an integer of at least 1"),
        (["--set", "policy.steps"], "--set policy.steps: no '='"),
        (["--resume", "maybe"], "--resume maybe"),
    ],
)
def test_a_value_out_of_its_limits_names_the_key_and_where_it_came_from(prlm, workspace, args, message):
    result = prlm("train-policy", "-w", workspace, *args)

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"prlm: {message}") and result.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["train-policy", "train-reward"])
def test_what_a_dry_run_prints_is_a_configuration_file_that_gives_the_same(prlm, tmp_path, command):
    first = prlm(command, "--dry-run", "--preset", "paper", "--seed", "3")
    file = tmp_path / "my.toml"
    file.write_text(first.stdout)

    assert prlm(command, "--dry-run", "--config", file) == first


def test_quiet_and_offline_given_before_a_subcommand_hold_after_it(prlm, tmp_path, monkeypatch):
    from prlm_cli import ui
    from prlm_cli.commands import options
    from prlm_cli.core.network import is_offline

    seen = []
    monkeypatch.setattr(
        options,
        "open_workspace",
        lambda folder: seen.append((ui.Output.quiet, ui.Output.verbose, is_offline())) or 1 / 0,
    )

    prlm("runs", "-q", "-v", "--offline", "show", "x")
    prlm("runs", "show", "x", "-q")
    prlm("runs", "show", "x")
    assert seen == [(True, True, True), (True, False, False), (False, False, False)]
