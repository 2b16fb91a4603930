"""What an `index --on-error skip` left out: a file with each rejected line and the reason, made when there is one."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

import msgspec

from prlm_cli.core.errors import DataError
from prlm_cli.core.files import private


class Rejects:
    """Collects faults; use it as a context manager. It holds users' text, so only its owner may read the file.

    Args:
        path: Replaced at the first fault.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        self.first: DataError | None = None
        self._stream: IO[bytes] | None = None

    def __enter__(self) -> Rejects:
        return self

    def __exit__(self, *_: object) -> None:
        if self._stream:
            self._stream.close()

    def __call__(self, error: DataError, rejected: Any) -> None:
        """Takes down a fault: an `OnFault`."""
        self.first = self.first or error
        self.count += 1
        if self._stream is None:
            self._stream = open(self.path, "wb", opener=private)  # noqa: SIM115
        self._stream.write(msgspec.json.encode({"reason": error.message, "rejected": rejected}) + b"\n")
