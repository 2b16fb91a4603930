"""All printing: records and tables to stdout, everything else to stderr.

Users' text never reaches a terminal with its control characters: `visible` shows them.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
import unicodedata
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from prlm_cli.core.errors import PrlmError
from prlm_cli.core.reporting import Stage

if TYPE_CHECKING:
    from msgspec import Struct
    from rich.console import Console, Group
    from rich.live import Live

_PLAIN_EVERY = 30.0  # seconds between progress lines where stderr is no terminal
_ETA_WINDOW = 600.0  # seconds whose pace the time that is left is reckoned from; a step may take a minute
_BESIDE = 3  # figures that stand beside a bar; more become a table below it
_ANY_WIDTH = 10_000  # of a table that goes to a file: no column is narrowed


class Output:
    """The state of the output: how much is said, set once from the flags of a command, and the live line."""

    quiet = False
    verbose = False
    live: Live | None = None
    """The progress that is on the terminal now."""


def print_line(text: str = "", *, to_stderr: bool = False, end: str = "\n") -> None:
    """One line of our own text."""
    stop_progress()
    print(text, file=sys.stderr if to_stderr else sys.stdout, flush=to_stderr, end=end)


def note(text: str) -> None:
    """A line on stderr that --quiet hides."""
    if not Output.quiet:
        print_line(f"prlm: {text}", to_stderr=True)


def print_records(items: Iterable[Struct]) -> None:
    """Records as JSON lines on stdout, each as soon as it is there."""
    from prlm_cli.core import jsonl  # here, not above: `prlm --help` prints none

    for item in items:
        stop_progress()
        sys.stdout.buffer.write(jsonl.encode(item))
        sys.stdout.buffer.flush()


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    import msgspec

    print_line(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def print_table(header: Sequence[str], rows: Iterable[Sequence[Any]], *, prefix: str = "") -> None:
    """A table on stdout, each line behind the prefix; the first column is text, the others are figures."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    stop_progress()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for n, name in enumerate(header):
        table.add_column(Text(visible(name)), justify="right" if n else "left")
    for row in rows:
        table.add_row(*(Text(visible(str(cell))) for cell in row))  # a plain string would be read as markup
    console = Console(width=None if sys.stdout.isatty() else _ANY_WIDTH)
    with console.capture() as captured:
        console.print(table)
    print_line("".join(f"{prefix}{line}" for line in captured.get().splitlines(keepends=True)), end="")


def print_error(error: PrlmError) -> None:
    """One line: what is wrong, where, and what to do; with -v the traceback."""
    if Output.verbose:
        traceback.print_exception(error)
    print_line(f"prlm: {visible(str(error))}", to_stderr=True)


def print_usage_error(error: Exception) -> None:
    """Typer's message about wrong arguments, in one line."""
    message = getattr(error, "format_message", lambda: str(error))()
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "prlm"
    stop = "" if message.endswith((".", "?")) else "."
    print_line(f"prlm: {visible(message)}{stop} Try `{command} --help`.", to_stderr=True)


def print_bug(error: Exception) -> None:
    """One line for an error nobody foresaw; its text may hold a user's, so only -v shows it."""
    if Output.verbose:
        traceback.print_exception(error)
    frame = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{os.path.basename(frame.filename)}:{frame.lineno}"  # noqa: PTH119
    print_line(f"prlm: a bug ({type(error).__name__} in {where}); run with -v for the traceback", to_stderr=True)


def visible(text: str) -> str:
    """The text with control, format and separator characters shown as escapes."""
    hidden = ("Cc", "Cf", "Cs", "Zl", "Zp")
    return "".join(
        character.encode("unicode_escape").decode() if unicodedata.category(character) in hidden else character
        for character in text
    )


class _LiveStage:
    """Progress of one stage on a terminal: a bar with the figures of the moment beside it; many stand below it."""

    def __init__(self, name: str, console: Console) -> None:
        from rich.live import Live
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}", markup=False), BarColumn(20), MofNCompleteColumn())
        self._name = name
        self._figures: dict[str, float] = {}
        self._progress = Progress(*columns, TimeRemainingColumn(), speed_estimate_period=_ETA_WINDOW)
        self._task = self._progress.add_task(name, total=None)
        self._live = Live(
            get_renderable=self._drawn,
            console=console,
            auto_refresh=False,  # steps are seconds long: nothing changes between them
            redirect_stdout=False,
        )

    def __call__(self, done: int, total: int = 0, **figures: float) -> None:
        if Output.quiet:
            return
        if Output.live is not self._live:
            stop_progress()
            Output.live = self._live
            self._live.start()
        self._figures = figures
        beside = _spelled(figures) if len(figures) <= _BESIDE else []
        description = " ".join([self._name, *beside])
        self._progress.update(self._task, completed=done, total=total or None, description=description)
        self._live.refresh()
        if done == total:
            stop_progress()

    def _drawn(self) -> Group:
        from rich.columns import Columns
        from rich.console import Group
        from rich.text import Text

        below = [Text(f"{name} {value:.3g}") for name, value in self._figures.items()]
        table = [Columns(below, equal=True, padding=(0, 3))] if len(below) > _BESIDE else []
        return Group(self._progress, *table)


class _PlainStage:
    """Progress of one stage as a line every 30 seconds, where stderr is no terminal."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._started = self._last = time.monotonic()

    def __call__(self, done: int, total: int = 0, **figures: float) -> None:
        now = time.monotonic()
        if now - self._last < _PLAIN_EVERY:
            return
        self._last = now
        parts = [self._name, f"{done}/{total}" if total else str(done), *_spelled(figures)]
        if done and total:
            parts.append(f"eta={duration((now - self._started) / done * (total - done))}")
        if not Output.quiet:
            print_line(" ".join(parts), to_stderr=True)


def _spelled(figures: dict[str, float]) -> list[str]:
    return [f"{name}={value:.3g}" for name, value in figures.items()]


def stop_progress() -> None:
    """Ends the live line, if there is one: it stays as it is, and the cursor is shown again."""
    if Output.live:
        Output.live.stop()
        Output.live = None


class Terminal:
    """The reporter of the command line: notes and progress on stderr."""

    def note(self, text: str) -> None:
        """A line that --quiet hides."""
        note(text)

    def stage(self, name: str) -> Stage:
        """The progress of a new stage."""
        from rich.console import Console

        console = Console(stderr=True)
        return _LiveStage(name, console) if console.is_interactive else _PlainStage(name)


def duration(seconds: float) -> str:
    """Seconds as people say them: 8s, 3m05s, 2h10m."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes}m{rest:02d}s" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02d}m"
