"""Files that are there as a whole or not at all, and that only their owner may read."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable
from pathlib import Path

from prlm_cli.core.errors import StorageError


def replace_file(path: Path, content: Iterable[bytes]) -> None:
    """Replaces a file's bytes in one atomic step; where the content ends in an error, the file stays as it was.

    Raises:
        StorageError: If it cannot be written.
    """
    import tempfile

    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}", hint="check the folder and its permissions") from error
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.writelines(content)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).replace(path)
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}", hint="free some space or check the permissions") from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            Path(temporary).unlink()


_DISK_ENDS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_TORCH_STOPPED = ("unexpected pos", "iostream error")  # its writer of checkpoints does not say why


def where_disk_ends(error: BaseException) -> str | None:
    """What the system says of a file that could not be written to its end; None for any other error."""
    if isinstance(error, OSError):
        return error.strerror if error.errno in _DISK_ENDS else None
    message = str(error)
    for number in _DISK_ENDS:
        if f"(os error {number})" in message:  # safetensors
            return os.strerror(number)
    if any(phrase in message for phrase in _TORCH_STOPPED):
        return "a file could not be written to its end"
    return None


def private(name: str, flags: int) -> int:
    """An opener of files that only their owner may read."""
    return os.open(name, flags, 0o600)
