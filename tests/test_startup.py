"""Start-up is light: what a library costs is paid by the command that needs it."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import typer

import prlm_cli
from prlm_cli.cli import COMMANDS, module_of

_MODULES = sorted(
    path.stem for path in (Path(prlm_cli.__file__).parent / "commands").glob("*.py") if path.stem != "__init__"
)
_THERE = [name for name in COMMANDS if module_of(name) in _MODULES]
_HEAVY = {"torch", "transformers", "trl", "peft", "bitsandbytes", "accelerate", "datasets", "gguf", "safetensors"}
_HEAVY |= {"tokenizers", "huggingface_hub", "bm25s", "numpy", "pandas", "pyarrow", "scipy"}
_HEAVY |= {"rich", "filelock", "zstandard"}
_FOR_OTHER_WORK = {"typer", "json", "gzip", "shutil", "tempfile", "random", "calendar", "difflib", "dataclasses"}
_PYDANTIC = {"pydantic", "pydantic_core"}  # Typer brings it in when it parses the flags of a command
_ASK = """
from pathlib import Path
import prlm_cli.core.workspace, prlm_cli.core.settings, prlm_cli.pipeline.retrieve as pipeline
from prlm_cli.core.records import Query

with prlm_cli.core.workspace.Workspace(Path({workspace!r})).open_store() as store:
    settings = prlm_cli.core.settings.RetrievalSettings(k=3)
    (found,) = pipeline.retrieve(store, [Query(query_id="q", user_id="ada", text="parsing trees")], settings)
assert len(found.profile) == 3
"""
_RUN = """
import sys
from prlm_cli.cli import main

sys.argv = ["prlm", *{arguments!r}]
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
"""


def _imported_by(code: str) -> set[str]:
    """The top-level modules that a fresh interpreter holds after some code."""
    show = "import sys; sys.stderr.write(' '.join({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{show}"], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


@pytest.mark.parametrize(
    ("code", "forbidden"),
    [
        ("import prlm_cli", _HEAVY | _PYDANTIC | {"typer", "sqlite3", "msgspec"}),
        ("import prlm_cli.cli", _HEAVY | _PYDANTIC | {"sqlite3", "Stemmer", "msgspec"}),
        (f"import {', '.join(f'prlm_cli.commands.{name}' for name in _MODULES)}", _HEAVY | _PYDANTIC),
        ("import prlm_cli.core.settings, prlm_cli.core.prompts, prlm_cli.core.workspace", _HEAVY | _PYDANTIC),
        ("import prlm_cli.pipeline.index, prlm_cli.pipeline.retrieve, prlm_cli.pipeline.sources", _HEAVY | _PYDANTIC),
        ("import prlm_cli.pipeline.import_", _HEAVY | _PYDANTIC),
    ],
    ids=["package", "cli", "commands", "core", "index and retrieve", "import"],
)
def test_start_up_imports_nothing_heavy(code, forbidden):
    assert _imported_by(code) & forbidden == set()


def test_one_query_in_python_imports_only_what_answers_it(workspace):
    needed = _imported_by("import hashlib, msgspec, sqlite3, Stemmer")
    imported = _imported_by(_ASK.format(workspace=str(workspace)))

    assert needed <= imported
    assert (imported - needed) & (_HEAVY | _PYDANTIC | _FOR_OTHER_WORK) == set()


def test_one_query_on_the_command_line_imports_no_more_than_typer_does(workspace):
    arguments = ["retrieve", "-w", str(workspace), "--user", "ada", "--text", "parsing trees"]
    imported = _imported_by(_RUN.format(arguments=arguments))

    assert imported & _HEAVY == set()
    assert {"sqlite3", "msgspec", "Stemmer", "typer"} <= imported


def test_the_listing_of_commands_needs_nothing_of_what_they_do():
    assert _imported_by(_RUN.format(arguments=["--help"])) & (_HEAVY | _PYDANTIC | {"sqlite3", "msgspec"}) == set()


def test_every_command_module_can_be_imported_alone():
    for name in _MODULES:
        assert import_module(f"prlm_cli.commands.{name}")


@pytest.mark.parametrize("name", _THERE)
def test_a_command_begins_its_help_with_the_sentence_of_the_listing(name):
    command = typer.main.get_command(import_module(f"prlm_cli.commands.{module_of(name)}").app)

    assert (command.help or "").strip().splitlines()[0] == COMMANDS[name]


@pytest.mark.parametrize("name", _THERE)
def test_every_flag_of_a_command_has_a_sentence_of_help(name):
    command = typer.main.get_command(import_module(f"prlm_cli.commands.{module_of(name)}").app)
    commands = [command, *getattr(command, "commands", {}).values()]

    for parameter in (parameter for command in commands for parameter in command.params):
        assert parameter.name == "help" or (getattr(parameter, "help", None) or "").endswith("."), parameter.name


def test_the_listing_shows_every_command_and_imports_none(prlm):
    result = prlm("--help")

    assert (result.exit_code, result.stderr) == (0, "")
    for name, sentence in COMMANDS.items():
        assert name in result.stdout and sentence.split(",")[0][:40] in result.stdout


def test_the_version_is_that_of_the_package(prlm):
    assert prlm("--version") == (0, f"prlm {prlm_cli.__version__}\n", "")


def test_the_module_runs_as_the_command():
    environment = {**os.environ, "PYTHONWARNINGS": "error"}
    done = subprocess.run(
        [sys.executable, "-m", "prlm_cli", "--version"], capture_output=True, text=True, env=environment
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, f"prlm {prlm_cli.__version__}\n", "")


def test_an_unknown_command_or_flag_is_one_line_and_exit_2(prlm):
    for args in (["retreive"], ["retrieve", "--no-such-flag"]):
        result = prlm(*args)

        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.startswith("prlm: ") and result.stderr.count("\n") == 1
