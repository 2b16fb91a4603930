"""The errors a caller can meet, each with its exit code.

    PrlmError                 70  never raised itself
    ├── DataError              2  a record, file or argument is wrong
    ├── SettingsError          2  a configuration key or value is wrong
    ├── RefusedError           1  done, and the answer is no (a closed gate, a requirement not met)
    ├── MissingError           3  an extra, a model or a piece of hardware is not there
    ├── OutOfMemoryError       4  the run does not fit
    └── StorageError           5  the workspace is corrupt, full, locked or not permitted

Messages name ids, files and lines, never a user's text.
"""

from __future__ import annotations

from collections.abc import Iterable


class PrlmError(Exception):
    """Base of all errors that `prlm` raises on purpose.

    Args:
        message: What is wrong and where.
        hint: What to do next.
    """

    exit_code = 70

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


class DataError(PrlmError):
    """A record, a file or an argument is wrong."""

    exit_code = 2


class SettingsError(PrlmError):
    """A configuration key or value is wrong."""

    exit_code = 2


class RefusedError(PrlmError):
    """The work was done and the answer is no."""

    exit_code = 1


class MissingError(PrlmError):
    """An extra, a model or a piece of hardware is not there."""

    exit_code = 3


class OutOfMemoryError(PrlmError):
    """The run does not fit into memory."""

    exit_code = 4


class StorageError(PrlmError):
    """The workspace is corrupt, full, locked or not permitted."""

    exit_code = 5


def is_out_of_memory(error: BaseException) -> bool:
    """Whether Python or torch says that memory has run out."""
    if isinstance(error, MemoryError):
        return True
    message = str(error).lower()  # torch has no type of its own for it on a CPU
    phrases = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, RuntimeError) and any(phrase in message for phrase in phrases)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint that names the nearest known word, or lists the known ones where none is near."""
    import difflib

    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=1)
    return f"did you mean {near[0]}?" if near else f"known: {', '.join(names)}"
