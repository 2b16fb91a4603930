"""What a reward model has scored before: hashes of inputs and numbers, no text."""

from __future__ import annotations

import hashlib
import sqlite3
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path

from prlm_cli.core.errors import StorageError
from prlm_cli.models.reward_model import Encoded

_LOCK_TIMEOUT = 10.0  # seconds
_ASKED_AT_ONCE = 500  # SQLite's limit of variables was 999


class ScoreCache:
    """Logits of one reward model by the content of what was scored, in a file. Use it as a context manager.

    Args:
        path: Made where it is missing, and made anew where it is damaged.

    Raises:
        StorageError: If it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.touch(mode=0o600)
            try:
                self._db = _open(path)
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError):
                    raise
                path.unlink()
                path.touch(mode=0o600)
                self._db = _open(path)
        except (OSError, sqlite3.Error) as error:
            raise self._wrong(error) from error

    def __enter__(self) -> ScoreCache:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def known(self, inputs: Sequence[Encoded]) -> dict[Encoded, float]:
        """The logits of those inputs that were scored before."""
        by_key = {_key(encoded): encoded for encoded in inputs}
        keys = list(by_key)
        found: dict[Encoded, float] = {}
        try:
            for start in range(0, len(keys), _ASKED_AT_ONCE):
                some = keys[start : start + _ASKED_AT_ONCE]
                marks = ",".join("?" * len(some))
                rows = self._db.execute(f"SELECT key, logit FROM scores WHERE key IN ({marks})", some)
                found.update((by_key[key], logit) for key, logit in rows)
        except sqlite3.Error as error:
            raise self._wrong(error) from error
        return found

    def keep(self, logits: Mapping[Encoded, float]) -> None:
        """Adds the logits of inputs."""
        rows = [(_key(encoded), logit) for encoded, logit in logits.items()]
        try:
            with self._db:
                self._db.executemany("INSERT OR REPLACE INTO scores VALUES (?, ?)", rows)
        except sqlite3.Error as error:
            raise self._wrong(error) from error

    def _wrong(self, error: Exception) -> StorageError:
        return StorageError(f"{self._path}: {error}", hint="remove it, or check the disk and permissions")


def _open(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=_LOCK_TIMEOUT)
    with db:
        db.execute("CREATE TABLE IF NOT EXISTS scores (key BLOB PRIMARY KEY, logit REAL NOT NULL) WITHOUT ROWID")
    return db


def _key(encoded: Encoded) -> bytes:
    ids, more, echo = encoded
    content = array("q", [len(ids), *ids, *more]).tobytes() + array("d", [echo]).tobytes()
    return hashlib.blake2b(content, digest_size=16).digest()
