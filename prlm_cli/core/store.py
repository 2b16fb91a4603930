"""The store: one SQLite file with every user's documents, their terms, and queries.

Every read of profiles takes exactly one user id. A document's row id is `uid << 24 | number`: a user's rows are
neighbours, in the order of the input.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from prlm_cli.core import terms
from prlm_cli.core.dates import parse_period
from prlm_cli.core.errors import DataError, StorageError
from prlm_cli.core.records import Document, Query

_APPLICATION_ID = 0x70726C6D  # "prlm"
_VERSION = 1
_MAX_DOCUMENTS_BITS = 24
_LOCK_TIMEOUT = 10.0  # seconds to wait for another connection
_SCHEMA = """
CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE user(uid INTEGER PRIMARY KEY, user_id TEXT NOT NULL UNIQUE, n INTEGER NOT NULL DEFAULT 0);
CREATE TABLE doc(rid INTEGER PRIMARY KEY, uid INTEGER NOT NULL, doc_id TEXT NOT NULL, title TEXT, text TEXT NOT NULL,
                 date TEXT, meta TEXT);
CREATE UNIQUE INDEX doc_key ON doc(uid, doc_id);
CREATE TABLE term(rid INTEGER PRIMARY KEY, until INTEGER, fingerprint BLOB NOT NULL, hashes BLOB NOT NULL);
CREATE TABLE query(qid INTEGER PRIMARY KEY, query_id TEXT NOT NULL UNIQUE, uid INTEGER NOT NULL, split TEXT,
                   record TEXT NOT NULL);
CREATE INDEX query_user ON query(uid);
"""


class Entry(NamedTuple):
    """What retrieval needs of a document: `until` is the last instant of its date, in microseconds, None if undated."""

    rid: int
    doc_id: str
    until: int | None
    fingerprint: bytes
    hashes: bytes

    @property
    def terms(self) -> array[int]:
        """The document's sorted term hashes."""
        found = array("Q")
        found.frombytes(self.hashes)
        return found


class Counts(NamedTuple):
    """What an `add` did."""

    added: int = 0
    updated: int = 0
    unchanged: int = 0

    def __add__(self, other: Any) -> Counts:
        return Counts(*(a + b for a, b in zip(self, other, strict=True)))


class Store:
    """An open store. Use it as a context manager.

    Args:
        path: The SQLite file.
        create: Make it where it is missing, and open it for writing.

    Raises:
        DataError: If there is no index and `create` is not set.
        StorageError: If the file is not a store of this version, is corrupt or locked.
    """

    def __init__(self, path: Path, *, create: bool = False) -> None:
        self.path = path
        if not create and not path.exists():
            raise DataError(f"no index in {path.parent}", hint="run `prlm index DATA` first")
        with self._storage_errors():
            self._db = self._connect(create)
            self._prepare(create)

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def add_documents(self, documents: Iterable[Document]) -> Counts:
        """Adds or updates documents in one transaction; one that is stored as it is costs no write."""
        counts = Counts()
        with self._storage_errors(), self._db:
            self._db.execute("BEGIN IMMEDIATE")
            for document in documents:
                counts += self._put_document(document)
        return counts

    def add_queries(self, queries: Iterable[Query]) -> Counts:
        """Adds or updates queries in one transaction."""
        counts = Counts()
        with self._storage_errors(), self._db:
            self._db.execute("BEGIN IMMEDIATE")
            for query in queries:
                counts += self._put_query(query)
        return counts

    def entries(self, user_id: str) -> list[Entry]:
        """The retrieval entries of one user's documents, in the order they came in; empty for an unknown user."""
        with self._storage_errors():
            uid = self._uid(user_id)
            if uid is None:
                return []
            low = uid << _MAX_DOCUMENTS_BITS
            rows = self._db.execute(
                "SELECT term.rid, doc_id, until, fingerprint, hashes FROM term JOIN doc ON doc.rid = term.rid"
                " WHERE term.rid >= ? AND term.rid < ? ORDER BY term.rid",
                (low, low + (1 << _MAX_DOCUMENTS_BITS)),
            )
            return [Entry(*row) for row in rows]

    def documents(self, user_id: str, doc_ids: Sequence[str] | None = None) -> list[Document]:
        """Documents of one user: those of `doc_ids` in that order, or all in the order they came in."""
        with self._storage_errors():
            uid = self._uid(user_id)
            columns = "SELECT doc_id, title, text, date, meta FROM doc WHERE uid = ?"
            if doc_ids is None:
                return [_document(user_id, row) for row in self._db.execute(f"{columns} ORDER BY rid", (uid,))]
            found = (self._db.execute(f"{columns} AND doc_id = ?", (uid, doc_id)).fetchone() for doc_id in doc_ids)
            return [_document(user_id, row) for row in found if row]

    def queries(self, *, split: str | None = None, user_id: str | None = None) -> Iterator[Query]:
        """Stored queries in the order they came in, of one split and of one user where given."""
        with self._storage_errors():
            rows = self._db.execute(
                "SELECT record FROM query JOIN user USING (uid)"
                " WHERE (?1 IS NULL OR split = ?1) AND (?2 IS NULL OR user_id = ?2) ORDER BY qid",
                (split, user_id),
            )
            for (record,) in rows:
                yield msgspec.json.decode(record, type=Query)

    def has_queries(self, split: str) -> bool:
        """Whether a query of that split is stored."""
        return next(self.queries(split=split), None) is not None

    def has_user(self, user_id: str) -> bool:
        """Whether the user has ever come in."""
        with self._storage_errors():
            return self._uid(user_id) is not None

    def users(self) -> list[str]:
        """All user ids, in the order they came in."""
        with self._storage_errors():
            return [user_id for (user_id,) in self._db.execute("SELECT user_id FROM user ORDER BY uid")]

    def count(self) -> dict[str, int]:
        """How many users, documents and queries the store holds."""
        with self._storage_errors():
            return {
                f"{name}s" if name != "doc" else "documents": self._db.execute(
                    f"SELECT count(*) FROM {name}"
                ).fetchone()[0]
                for name in ("user", "doc")
            } | {"queries": self._db.execute("SELECT count(*) FROM query").fetchone()[0]}

    def quick_check(self) -> str:
        """SQLite's own check of the file: "ok", or what is wrong."""
        with self._storage_errors():
            return str(self._db.execute("PRAGMA quick_check").fetchone()[0])

    def _connect(self, create: bool) -> sqlite3.Connection:
        if create:
            self.path.touch(mode=0o600)
        # A reader of a WAL file writes beside it too, and the last to leave clears that away. Where it may not write,
        # nobody does, and SQLite must be told so.
        writable = create or all(os.access(path, os.W_OK) for path in (self.path, self.path.parent))
        left_over = self.path.with_name(f"{self.path.name}-wal").exists()
        mode = "rw" if writable else "ro" if left_over else "ro&immutable=1"
        db = sqlite3.connect(f"{self.path.resolve().as_uri()}?mode={mode}", uri=True, timeout=_LOCK_TIMEOUT)
        db.execute(f"PRAGMA query_only={not create}")
        return db

    def _prepare(self, create: bool) -> None:
        application_id = self._db.execute("PRAGMA application_id").fetchone()[0]
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        is_empty = not self._db.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone()
        if create and is_empty:
            for pragma in ("page_size=8192", "journal_mode=WAL", f"application_id={_APPLICATION_ID}"):
                self._db.execute(f"PRAGMA {pragma}")
            self._db.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version={_VERSION}; COMMIT;")
            self._db.execute("INSERT INTO meta VALUES ('terms', ?)", (terms.FINGERPRINT,))
            self._db.commit()
        elif application_id != _APPLICATION_ID:
            raise StorageError(f"{self.path} is not a prlm index", hint="name another workspace with -w")
        elif version != _VERSION:
            raise StorageError(f"{self.path} has format {version}, this program reads {_VERSION}", hint="upgrade prlm")
        self._db.execute("PRAGMA secure_delete=ON")
        self._db.execute("PRAGMA synchronous=NORMAL")
        stored = self._db.execute("SELECT value FROM meta WHERE key = 'terms'").fetchone()
        if stored != (terms.FINGERPRINT,):
            raise StorageError(f"{self.path} was made by another tokeniser", hint="index the data into a new workspace")

    def _uid(self, user_id: str) -> int | None:
        row = self._db.execute("SELECT uid FROM user WHERE user_id = ?", (user_id,)).fetchone()
        return row[0] if row else None

    def _ensure_uid(self, user_id: str) -> int:
        self._db.execute("INSERT OR IGNORE INTO user(user_id) VALUES (?)", (user_id,))
        uid = self._uid(user_id)
        assert uid is not None
        return uid

    def _put_document(self, document: Document) -> Counts:
        uid = self._ensure_uid(document.user_id)
        row = (document.title, document.text, _encode(document.date), _encode(document.meta or None))
        stored = self._db.execute(
            "SELECT rid, title, text, date, meta FROM doc WHERE uid = ? AND doc_id = ?", (uid, document.doc_id)
        ).fetchone()
        if stored and stored[1:] == row:
            return Counts(unchanged=1)
        rid = stored[0] if stored else self._next_rid(uid)
        until = None if document.date is None else parse_period(document.date).end
        hashes = terms.terms(f"{document.title or ''}\n{document.text}").tobytes()
        self._db.execute(
            "INSERT OR REPLACE INTO doc(rid, uid, doc_id, title, text, date, meta) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (rid, uid, document.doc_id, *row),
        )
        self._db.execute(
            "INSERT OR REPLACE INTO term VALUES (?, ?, ?, ?)", (rid, until, terms.fingerprint_of(document.text), hashes)
        )
        return Counts(updated=1) if stored else Counts(added=1)

    def _next_rid(self, uid: int) -> int:
        number: int = self._db.execute("UPDATE user SET n = n + 1 WHERE uid = ? RETURNING n", (uid,)).fetchone()[0]
        return uid << _MAX_DOCUMENTS_BITS | number

    def _put_query(self, query: Query) -> Counts:
        uid = self._ensure_uid(query.user_id)
        record = _encode(query)
        stored = self._db.execute("SELECT qid, record FROM query WHERE query_id = ?", (query.query_id,)).fetchone()
        if stored and stored[1] == record:
            return Counts(unchanged=1)
        self._db.execute(
            "INSERT INTO query(query_id, uid, split, record) VALUES (?, ?, ?, ?) ON CONFLICT(query_id)"
            " DO UPDATE SET uid = excluded.uid, split = excluded.split, record = excluded.record",
            (query.query_id, uid, query.split, record),
        )
        return Counts(updated=1) if stored else Counts(added=1)

    @contextlib.contextmanager
    def _storage_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            locked = "locked" in str(error)
            hint = "another prlm is writing; try again when it is done" if locked else "check the disk and permissions"
            raise StorageError(f"{self.path}: {error}", hint=hint) from error
        except (sqlite3.DatabaseError, OSError) as error:
            raise StorageError(f"{self.path}: {error}", hint="index the data into a new workspace") from error


def _encode(value: Any) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()


def _document(user_id: str, row: tuple[Any, ...]) -> Document:
    doc_id, title, text, date, meta = row
    return Document(
        user_id=user_id,
        doc_id=doc_id,
        title=title,
        text=text,
        date=None if date is None else msgspec.json.decode(date),
        meta=msgspec.json.decode(meta) if meta else {},
    )
