"""The Typer app: names the subcommands and turns exceptions into exit codes; nothing else.

A subcommand's module is imported when it runs; the listing needs only the sentences here.
"""

from __future__ import annotations

import os
import signal
import sys
from importlib import import_module
from types import FrameType
from typing import Any

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from prlm_cli import ui
from prlm_cli.core.errors import (
    OutOfMemoryError,
    PrlmError,
    SettingsError,
    StorageError,
    did_you_mean,
    is_out_of_memory,
)
from prlm_cli.core.files import where_disk_ends
from prlm_cli.core.ranks import world_size
from prlm_cli.version import __version__

COMMANDS = {
    "index": "Add or update documents and queries.",
    "import": "Turn other people's files into records: LaMP, CSV, git.",
    "retrieve": "Give each query the k documents of its own user that fit it best.",
    "pairs": "Write the contrastive pairs of the reward model, to read, edit and bring back.",
    "train-reward": "Train the personalisation reward model on contrastive pairs.",
    "train-policy": "Train the policy: a warm start, then GRPO.",
    "generate": "Write personalised answers with their reasoning.",
    "eval": "Score generations: the mean of each metric, with its 95 % interval over users.",
    "compare": "Test two generation files against each other, paired by query.",
    "score": "Give each generation the reward model's score.",
    "plan": "Plan a policy training before it starts: memory, time, and what fits which card.",
    "show": "Show what the index holds: counts, users, one user's history.",
    "forget": "Remove every trace of a user, or of one document.",
    "runs": "List, show and remove the runs of a workspace.",
    "export": "Export a policy for other programs: its adapter, or checked merged weights.",
    "pull": "Fetch models into the cache, so that --offline works after it.",
    "doctor": "Check what works on this machine.",
    "run": "Go through the stages of a recipe, without those that are done.",
    "demo": "Run the whole pipeline on the embedded model and corpus.",
}
_MODULES = {"import": "import_"}  # where the command's name is a word of Python
_EPILOG = """\b
A full run:
  prlm index data.jsonl
  prlm train-reward
  prlm train-policy --qlora
  prlm generate --user u123"""
_IN_SEVERAL_PROCESSES = "train-policy"
_USAGE = 2
_BUG = 70
_INTERRUPTED = 130
_READER_GONE = 141
_TERMINATED = 143


def module_of(command: str) -> str:
    """The name of a command's module."""
    return _MODULES.get(command, command.replace("-", "_"))


class _Prlm(TyperGroup):
    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        return typer.main.get_command(import_module(f"prlm_cli.commands.{module_of(cmd_name)}").app)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] not in COMMANDS:
            ctx.fail(f"No such command '{args[0]}'; {did_you_mean(args[0], COMMANDS)}")
        if world_size() > 1 and args[0] != _IN_SEVERAL_PROCESSES:
            hint = f"run it without the launcher; only {_IN_SEVERAL_PROCESSES} runs in several"
            raise SettingsError(f"`prlm {args[0]}` runs in one process", hint=hint)
        _, command, rest = super().resolve_command(ctx, args)
        return args[0], command, rest


app = typer.Typer(
    cls=_Prlm,
    rich_markup_mode=None,
    add_completion=False,
    invoke_without_command=True,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _print_version(asked: bool) -> None:
    if asked:
        ui.print_line(f"prlm {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Show the version and exit."
    ),
) -> None:
    """Personalised retrieval-augmented generation with learned, explicit reasoning."""
    if context.invoked_subcommand is None:
        ui.print_line(context.get_help(), to_stderr=True)
        raise typer.Exit(_USAGE)


def main() -> None:
    """Runs the command line and exits with the code of interface.md."""
    signal.signal(signal.SIGTERM, _terminate)
    code = _run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except OSError as error:
        code = _code_of(error)
    sys.exit(code)


def _run(arguments: list[str]) -> int:
    # Not through the app's own call: that turns a broken pipe into exit 1 and prints on Ctrl-D.
    command = typer.main.get_command(app)
    try:
        with command.make_context("prlm", arguments) as context:
            command.invoke(context)
    except typer.Exit as stop:
        return stop.exit_code
    except (typer.Abort, KeyboardInterrupt):
        return _INTERRUPTED
    except Exception as error:
        return _code_of(error)
    finally:
        ui.stop_progress()
    return 0


def _code_of(error: Exception) -> int:
    """The exit code of an error, which is said in one line."""
    if isinstance(error, BrokenPipeError):
        _discard_stdout()
        return _READER_GONE
    if _is_echo():
        return getattr(error, "exit_code", _BUG)
    if isinstance(error, TyperException):
        ui.print_usage_error(error)
        return _USAGE
    known = error if isinstance(error, PrlmError) else _known(error)
    if known:
        ui.print_error(known)
        return known.exit_code
    ui.print_bug(error)
    return _BUG


def _is_echo() -> bool:
    """Whether another of several processes failed before, and has said why."""
    if world_size() == 1:
        return False
    from prlm_cli.training.collectives import is_first_to_fail

    return not is_first_to_fail()


def _known(error: Exception) -> PrlmError | None:
    """What Python and torch raise where memory or the disk ends, as an error of ours."""
    known: PrlmError
    if is_out_of_memory(error):
        known = OutOfMemoryError("out of memory", hint="try smaller batches, shorter prompts or --qlora")
    elif reason := where_disk_ends(error):
        _discard_stdout()  # it may be what could not be written
        known = StorageError(reason, hint="free some space")
    else:
        return None
    known.__cause__ = error
    return known


def _discard_stdout() -> None:
    # The interpreter flushes stdout once more at its end; with nowhere to write that would be an error of its own.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _terminate(number: int, frame: FrameType | None) -> None:
    raise SystemExit(_TERMINATED)
