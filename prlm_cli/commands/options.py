"""What the commands share: the Typer app of each, flags, and what these set up."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from prlm_cli import ui

if TYPE_CHECKING:
    from msgspec import Struct

    from prlm_cli.core.settings import Engine as EngineName
    from prlm_cli.core.workspace import Workspace
    from prlm_cli.report.table import Table

WorkspaceDir = Annotated[
    Path, typer.Option("-w", "--workspace", envvar="PRLM_WORKSPACE", help="Workspace folder.", show_default=True)
]
Input = Annotated[Path | None, typer.Argument(metavar="INPUT", help="JSONL file; - is stdin.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Report = Annotated[
    Path | None, typer.Option("--report", metavar="FILE.html", help="Write a page with plots and examples.")
]
Markdown = Annotated[bool, typer.Option("--md", help="Print the table in Markdown.")]
Split = Annotated[str, typer.Option("--split", help="Queries of the index to work on, without INPUT.")]
OutFile = Annotated[Path | None, typer.Option("-o", "--output", help="Write to a file instead of stdout.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what is there.")]
Map = Annotated[str | None, typer.Option("--map", metavar="FIELD=COLUMN,…", help="Which column is which field.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of everything random.")]
RunName = Annotated[str | None, typer.Option("--name", help="Name of the run; default: the next number.")]
Resume = Annotated[str, typer.Option("--resume", metavar="auto|never", help="Go on with an interrupted run.")]
Engine = Annotated[
    str, typer.Option("--engine", metavar="local|ray", help="One process, or the cores of a Ray cluster.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the resolved configuration and do nothing.")]
Fit = Annotated[
    str | None, typer.Option("--fit", metavar="SIZE", help="Choose passes, and lengths if need be, to fit; as 8gb.")
]

DEFAULT_WORKSPACE = Path(".prlm")


# What every command and group of commands takes; the callbacks are all that these flags do. One that is given before a
# subcommand holds after it as well, so only a given flag sets something.
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


_COMMON = {
    "quiet": typer.Option("-q", "--quiet", callback=_set_quiet, help="Say errors only."),
    "verbose": typer.Option("-v", "--verbose", callback=_set_verbose, help="Show tracebacks and library logs."),
    "offline": typer.Option("--offline", callback=_set_offline, help="Refuse every network connection."),
}


def new_app() -> typer.Typer:
    """The Typer app of one command's file; its commands take --quiet, --verbose and --offline."""
    return _App(cls=_Group, rich_markup_mode=None, add_completion=False)


class _App(typer.Typer):
    def command(self, *args: Any, **options: Any) -> Callable[[Any], Any]:
        add = super().command(*args, **{"cls": _Command, **options})
        return lambda function: add(_with_common_flags(function))

    def callback(self, *args: Any, **options: Any) -> Callable[[Any], Any]:
        add = super().callback(*args, **options)
        return lambda function: add(_with_common_flags(function))


def _with_common_flags(function: Callable[..., None]) -> Callable[..., None]:
    def wrapper(**arguments: Any) -> None:
        function(**{name: value for name, value in arguments.items() if name not in _COMMON})

    own = inspect.signature(function, eval_str=True).parameters.values()
    return with_parameters(wrapper, function, [*own, *(keyword(name, bool, _COMMON[name], False) for name in _COMMON)])


def keyword(name: str, kind: Any, option: Any, default: Any) -> inspect.Parameter:
    """A parameter that Typer reads as an option."""
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option])


def with_parameters(
    wrapper: Callable[..., None], function: Callable[..., None], parameters: Iterable[inspect.Parameter]
) -> Callable[..., None]:
    """The wrapper of a command's function, as Typer is to see it: its name and help, and these parameters."""
    parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    wrapper.__name__, wrapper.__doc__ = function.__name__, function.__doc__
    return wrapper


class _Command(TyperCommand):
    def __init__(self, *args: Any, help: str | None = None, **options: Any) -> None:
        super().__init__(*args, help=_keep_examples_apart(help), **options)


def bare(*flags: str) -> type[TyperCommand]:
    """The class of a command whose flags of these names need no value: alone, each is the empty string.

    A flag is alone where the line ends behind it or another option follows, or - for standard input.
    """

    class WithBareFlags(_Command):
        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            pairs = zip(args, [*args, "-"][1:], strict=True)
            given = [f"{arg}=" if arg in flags and after.startswith("-") else arg for arg, after in pairs]
            return super().parse_args(ctx, given)

    return WithBareFlags


class _Group(TyperGroup):
    def __init__(self, *args: Any, help: str | None = None, **options: Any) -> None:
        super().__init__(*args, help=_keep_examples_apart(help), **options)


def _keep_examples_apart(text: str | None) -> str | None:
    """The help with its paragraph of `Example:` lines marked as one that is not to be filled."""
    return text and re.sub(r"\n\n(?=Example: )", "\n\n\b\n", text)


def open_workspace(folder: Path) -> Workspace:
    """The workspace; libraries are quiet from here on."""
    from prlm_cli.core.workspace import Workspace

    quieten_libraries()
    return Workspace(folder)


def quieten_libraries() -> None:
    """Switches library telemetry and chatter off, before any library is imported."""
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not ui.Output.verbose:
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def deliver(records: Iterable[Struct], *, output: Path | None, force: bool, as_json: bool) -> None:
    """Records where the user wants them: in a file, as one JSON list, or as JSON lines as soon as each is there."""
    if output:
        from prlm_cli.core import jsonl

        ui.note(f"{jsonl.write(output, records, force=force)} records in {output}")
    elif as_json:
        ui.print_json(list(records))
    else:
        ui.print_records(records)


def show_table(table: Table, *, as_markdown: bool) -> None:
    """A table on stdout, for the terminal or in Markdown."""
    from prlm_cli.report.table import markdown

    if not as_markdown:
        ui.print_table(*table)
        return
    for line in markdown(table).splitlines():
        ui.print_line(ui.visible(line))


def check_report(path: Path | None, *, force: bool) -> None:
    """Does nothing if a report may be written there; asked before hours of work.

    Raises:
        DataError: If the file exists, without `force`.
        SettingsError: If it is standard output, which holds the table.
    """
    from prlm_cli.core.errors import DataError, SettingsError

    if path is None:
        return
    if str(path) == "-":
        raise SettingsError("--report -: a report goes to a file", hint="name one, such as report.html")
    if path.exists() and not force:
        raise DataError(f"{path} exists", hint="use --force to replace it")


def write_report(path: Path, html: str) -> None:
    """Writes a page, and says where."""
    from prlm_cli.core.workspace import write_text

    write_text(path, html)
    ui.note(f"report in {ui.visible(str(path))}")


def refuse_both(*flags: tuple[str, bool]) -> None:
    """Does nothing if at most one of the flags is given.

    Raises:
        SettingsError: If more are.
    """
    from prlm_cli.core.errors import SettingsError

    given = [name for name, is_given in flags if is_given]
    if len(given) > 1:
        raise SettingsError(f"{' and '.join(given)} do not go together", hint="leave one of the two out")


def choice(flag: str, value: str, choices: Sequence[str]) -> str:
    """The value of a flag that has only a few.

    Raises:
        SettingsError: If it is none of them.
    """
    from prlm_cli.core.errors import SettingsError, did_you_mean

    if value not in choices:
        raise SettingsError(f"{flag} {value}", hint=did_you_mean(value, choices))
    return value


def engine_of(name: str) -> EngineName:
    """What `--engine` says.

    Raises:
        SettingsError: If it names no engine.
    """
    return "ray" if choice("--engine", name, ("local", "ray")) == "ray" else "local"


def resumes(value: str) -> bool:
    """Whether `--resume` says to go on.

    Raises:
        SettingsError: If it says neither auto nor never.
    """
    return choice("--resume", value, ("auto", "never")) == "auto"
