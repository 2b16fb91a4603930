from __future__ import annotations

import re

import pytest

from prlm_cli.cli import COMMANDS

ALL = [*COMMANDS, "runs show", "runs rm", "import lamp", "import csv", "import git"]


def test_the_help_of_the_program_is_the_golden_one(prlm, golden):
    result = prlm("--help")

    assert (result.exit_code, result.stderr) == (0, "")
    golden("help.txt", result.stdout)


@pytest.mark.parametrize("command", ALL)
def test_the_help_of_a_command_is_the_golden_one(prlm, golden, command):
    result = prlm(*command.split(), "--help")

    assert (result.exit_code, result.stderr) == (0, "")
    golden(f"help-{command.replace(' ', '-')}.txt", result.stdout)


@pytest.mark.parametrize("command", ALL)
def test_every_help_ends_its_text_in_examples_of_one_line_each(prlm, command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")  # narrower than most examples
    lines = prlm(*command.split(), "--help").stdout.splitlines()
    examples = [line.removeprefix("  Example: ") for line in lines if "Example:" in line]

    assert len(examples) >= 2 or command == "demo"
    assert all(re.match(rf"(prlm .*\| )?prlm {command}\b", example) for example in examples)


@pytest.mark.parametrize("command", ALL)
def test_h_is_help(prlm, command):
    assert prlm(*command.split(), "-h") == prlm(*command.split(), "--help")


def test_a_default_is_shown_as_it_would_be_typed(prlm):
    words = " ".join(prlm("train-policy", "--help").stdout.split())

    for flag in ("[default: SmolLM2-135M-Instruct]", "[default: no-qlora]", "[default: 0.0001]", "[default: 8]"):
        assert flag in words
    assert "default: (" not in words


def test_without_a_command_the_help_goes_to_stderr_and_the_exit_code_is_2(prlm):
    result = prlm()

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == prlm("--help").stdout


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_no_command_offers_to_install_shell_completion(prlm, command):
    assert "completion for the current shell" not in prlm(*command.split(), "--help").stdout
