"""One SQLite file, opened: how, what a reader sees meanwhile, and what goes wrong with it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from prlm_cli.core.errors import StorageError

_DAMAGED = "try `prlm index --rebuild`; if that fails too, index the data into a new workspace"
_LOCK_TIMEOUT = 10.0  # seconds to wait for another connection


class Connection:
    """An open SQLite file. Use it as a context manager.

    Args:
        path: The file.
        create: Make it where it is missing, and open it for writing.

    Raises:
        StorageError: If it cannot be opened.
    """

    _snapshots = 0  # blocks that go on
    _holds_state = False

    def __init__(self, path: Path, *, create: bool) -> None:
        self.path = path
        with self._storage_errors():
            self._db = self._connect(create)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """A block in which all reads see the state of its beginning.

        Blocks may be nested, or overlap where generators take turns: the state is let go when the last one ends.
        """
        self._enter_snapshot()
        try:
            yield
        finally:
            self._leave_snapshot()

    def settle(self) -> None:
        """Moves what was committed from the log into the file; a reader that is busy puts it off."""
        with self._storage_errors():
            self._db.execute("PRAGMA optimize")  # first, since it writes
            self._db.execute("PRAGMA busy_timeout=0")  # nobody waits for a reader
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._db.execute(f"PRAGMA busy_timeout={_LOCK_TIMEOUT * 1000:.0f}")

    def truncate_log(self) -> None:
        """Empties the write-ahead log, so that no byte of what was erased is left in it.

        Raises:
            StorageError: If another process still reads the state of before.
        """
        with self._storage_errors():
            if self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                raise StorageError(
                    f"{self.path} is still read by another prlm: not yet erased", hint="run it again when that is done"
                )

    def quick_check(self) -> str:
        """SQLite's own check of the file: "ok", or what is wrong."""
        with self._storage_errors():
            return str(self._db.execute("PRAGMA quick_check").fetchone()[0])

    def _connect(self, create: bool) -> sqlite3.Connection:
        if create:
            self.path.touch(mode=0o600)
        # A reader of a WAL file writes beside it too, and the last to leave clears that away. Where it may not write,
        # nobody does, and SQLite must be told so.
        writable = create or is_writable(self.path)
        left_over = self.path.with_name(f"{self.path.name}-wal").exists()
        mode = "rw" if writable else "ro" if left_over else "ro&immutable=1"
        uri = f"{self.path.resolve().as_uri()}?mode={mode}"
        return sqlite3.connect(uri, uri=True, timeout=_LOCK_TIMEOUT, isolation_level=None)

    def _enter_snapshot(self) -> None:
        with self._storage_errors():
            if not self._snapshots and not self._db.in_transaction:  # a write sees its own state
                self._db.execute("BEGIN")
                self._holds_state = True
                self._db.execute("SELECT 1 FROM meta LIMIT 1").fetchone()  # BEGIN alone holds nothing yet
        self._snapshots += 1

    def _leave_snapshot(self) -> None:
        self._snapshots -= 1
        if self._holds_state and not self._snapshots:
            self._holds_state = False
            with contextlib.suppress(sqlite3.ProgrammingError):  # the store was closed meanwhile
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")  # COMMIT fails after an error

    @contextlib.contextmanager
    def _storage_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            locked = "locked" in str(error)
            hint = "another prlm is writing; try again when it is done" if locked else "check the disk and permissions"
            raise StorageError(f"{self.path}: {error}", hint=hint) from error
        except (sqlite3.DatabaseError, OSError, UnicodeDecodeError) as error:  # the last: of SQLite's own messages
            raise StorageError(f"{self.path}: {error}", hint=_DAMAGED) from error


@contextlib.contextmanager
def unless_locked() -> Iterator[None]:
    """A block that is given up where somebody else writes for long."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if "locked" not in str(error):
            raise


def is_writable(path: Path) -> bool:
    """Whether a file may be written, and files beside it."""
    return all(os.access(place, os.W_OK) for place in (path, path.parent))
