"""What the commands share: the Typer app of each, flags, and what these set up."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from prlm_cli import ui
from prlm_cli.core.workspace import Workspace

WorkspaceDir = Annotated[
    Path, typer.Option("-w", "--workspace", envvar="PRLM_WORKSPACE", help="Workspace folder.", show_default=True)
]
Input = Annotated[Path | None, typer.Argument(metavar="INPUT", help="JSONL file; - is stdin.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Split = Annotated[str, typer.Option("--split", help="Queries of the index to work on, without INPUT.")]
OutFile = Annotated[Path | None, typer.Option("-o", "--output", help="Write to a file instead of stdout.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what is there.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of everything random.")]
RunName = Annotated[str | None, typer.Option("--name", help="Name of the run; default: the next number.")]
Resume = Annotated[str, typer.Option("--resume", metavar="auto|never", help="Go on with an interrupted run.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the resolved configuration and do nothing.")]

DEFAULT_WORKSPACE = Path(".prlm")


# A flag given before a subcommand holds after it as well, so only a given flag sets something.
def _set_quiet(value: bool) -> None:
    if value:
        ui.Output.quiet = True


def _set_verbose(value: bool) -> None:
    if value:
        ui.Output.verbose = True


def _set_offline(value: bool) -> None:
    if value:
        from prlm_cli.core.network import refuse_network

        refuse_network()


Quiet = Annotated[bool, typer.Option("-q", "--quiet", callback=_set_quiet, help="Say errors only.")]
Verbose = Annotated[
    bool, typer.Option("-v", "--verbose", callback=_set_verbose, help="Show tracebacks and library logs.")
]
Offline = Annotated[bool, typer.Option("--offline", callback=_set_offline, help="Refuse every network connection.")]


def new_app() -> typer.Typer:
    """The Typer app of one command's file."""
    return _App(cls=_Group, rich_markup_mode=None, add_completion=False)


class _App(typer.Typer):
    def command(self, *args: Any, **options: Any) -> Callable[[Any], Any]:
        return super().command(*args, **{"cls": _Command, **options})


class _Command(TyperCommand):
    def __init__(self, *args: Any, help: str | None = None, **options: Any) -> None:
        super().__init__(*args, help=_keep_examples_apart(help), **options)


class _Group(TyperGroup):
    def __init__(self, *args: Any, help: str | None = None, **options: Any) -> None:
        super().__init__(*args, help=_keep_examples_apart(help), **options)


def _keep_examples_apart(text: str | None) -> str | None:
    """The help with its paragraph of `Example:` lines marked as one that is not to be filled."""
    return text and re.sub(r"\n\n(?=Example: )", "\n\n\b\n", text)


def open_workspace(folder: Path) -> Workspace:
    """The workspace; library telemetry and chatter are switched off before any library is imported."""
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not ui.Output.verbose:
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    return Workspace(folder)


def resumes(value: str) -> bool:
    """Whether `--resume` says to go on.

    Raises:
        SettingsError: If it says neither auto nor never.
    """
    from prlm_cli.core.errors import SettingsError, did_you_mean

    choices = ("auto", "never")
    if value not in choices:
        raise SettingsError(f"--resume {value}", hint=did_you_mean(value, choices))
    return value == "auto"
