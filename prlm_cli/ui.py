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
from typing import Any

import msgspec

from prlm_cli.core import jsonl
from prlm_cli.core.errors import PrlmError

_PLAIN_EVERY = 30.0  # seconds between progress lines where stderr is no terminal


class Output:
    """How much is said, set once from the flags of a command."""

    quiet = False
    verbose = False


def print_line(text: str = "", *, to_stderr: bool = False, end: str = "\n") -> None:
    """One line of our own text."""
    print(text, file=sys.stderr if to_stderr else sys.stdout, flush=to_stderr, end=end)


def note(text: str) -> None:
    """A line on stderr that --quiet hides."""
    if not Output.quiet:
        print_line(f"prlm: {text}", to_stderr=True)


def print_records(items: Iterable[msgspec.Struct]) -> None:
    """Records as JSON lines on stdout, each as soon as it is there."""
    for item in items:
        sys.stdout.buffer.write(jsonl.encode(item))
        sys.stdout.buffer.flush()


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    print_line(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def print_table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A table on stdout; the first column is text, the others are figures."""
    cells = [[visible(str(cell)) for cell in row] for row in [header, *rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    for row in cells:
        first, *rest = (
            cell.ljust(w) if n == 0 else cell.rjust(w) for n, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        print_line("  ".join([first, *rest]).rstrip())


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


class Progress:
    """Progress of one stage on stderr: a live line on a terminal, a plain one every 30 seconds elsewhere.

    Args:
        stage: Its name.
        total: How many items there are; 0 when unknown.
    """

    def __init__(self, stage: str, total: int = 0) -> None:
        self._stage = stage
        self._total = total
        self._done = 0
        self._started = self._last = time.monotonic()
        self._is_live = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"

    def __call__(self, done: int, total: int = 0, **figures: float) -> None:
        """Says how many items are done, and the figures of the moment."""
        self._done, self._total = done, total or self._total
        now = time.monotonic()
        if Output.quiet or (not self._is_live and now - self._last < _PLAIN_EVERY):
            return
        self._last = now
        if self._is_live:
            sys.stderr.write(f"\r\x1b[K{self._line(now, figures)}")
            if self._done == self._total:
                sys.stderr.write("\n")
            sys.stderr.flush()
        else:
            print_line(self._line(now, figures), to_stderr=True)

    def _line(self, now: float, figures: dict[str, float]) -> str:
        parts = [self._stage, f"{self._done}/{self._total}" if self._total else str(self._done)]
        parts += [f"{name}={value:.3g}" for name, value in figures.items()]
        if self._done and self._total:
            parts.append(f"eta={duration((now - self._started) / self._done * (self._total - self._done))}")
        return " ".join(parts)


class Terminal:
    """The reporter of the command line: notes and progress on stderr."""

    def note(self, text: str) -> None:
        """A line that --quiet hides."""
        note(text)

    def stage(self, name: str) -> Progress:
        """The progress of a new stage."""
        return Progress(name)


def duration(seconds: float) -> str:
    """Seconds as people say them: 8s, 3m05s, 2h10m."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes}m{rest:02d}s" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02d}m"
