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

from prlm_cli import ui
from prlm_cli.core.errors import PrlmError
from prlm_cli.version import __version__

COMMANDS = {
    "index": "Add or update documents and queries.",
    "retrieve": "Give each query the k documents of its own user that fit it best.",
    "train-reward": "Train the personalisation reward model on contrastive pairs.",
    "train-policy": "Train the policy: a warm start, then GRPO.",
    "generate": "Write personalised answers with their reasoning.",
    "eval": "Score generations, with intervals.",
    "compare": "Test two generation files against each other, paired by query.",
    "runs": "List, show and remove the runs of a workspace.",
    "pull": "Fetch models into the cache, so that --offline works after it.",
    "doctor": "Check what works on this machine.",
    "demo": "Run the whole pipeline on the embedded model and corpus.",
}
_EPILOG = "A full run: prlm index data.jsonl; prlm train-reward; prlm train-policy --qlora; prlm generate --user u123"
_TERMINATED = 143
_INTERRUPTED = 130
_READER_GONE = 141
_BUG = 70


class _Prlm(TyperGroup):
    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"prlm_cli.commands.{cmd_name.replace('-', '_')}")
        return typer.main.get_command(module.app)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        return (args[0] if command else name), command, rest

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except PrlmError as error:
            ui.print_error(error)
            raise typer.Exit(error.exit_code) from error


app = typer.Typer(
    cls=_Prlm,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=False,
    no_args_is_help=True,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _print_version(asked: bool) -> None:
    if asked:
        ui.print_line(f"prlm {__version__}")
        raise typer.Exit


@app.callback()
def _root(version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True)) -> None:
    """Personalised retrieval-augmented generation with learned, explicit reasoning."""


def main() -> None:
    """Runs the command line and exits with the code of interface.md."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
    except typer.Exit as stop:
        code = stop.exit_code
    except (typer.Abort, KeyboardInterrupt):
        code = _INTERRUPTED
    except BrokenPipeError:
        # The interpreter flushes stdout once more at its end; with nowhere to write that would be an error of its own.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = _READER_GONE
    except MemoryError:
        ui.print_line("prlm: out of memory; try smaller batches or --qlora", to_stderr=True)
        code = 4
    except Exception as error:
        code = _code_of(error)
    sys.exit(code)


def _code_of(error: Exception) -> int:
    if isinstance(error, typer.BadParameter.__mro__[2]):  # ClickException, which Typer keeps under a private name
        ui.print_usage_error(error)
        return 2
    ui.print_bug(error)
    return _BUG


def _terminate(number: int, frame: FrameType | None) -> None:
    raise SystemExit(_TERMINATED)
