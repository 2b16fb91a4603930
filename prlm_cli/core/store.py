"""The store: one SQLite file with every user's documents, their terms, and queries.

Every read of profiles takes exactly one user id. Readers go on while a writer writes, and do not see it.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from prlm_cli.core import schema, terms, writer
from prlm_cli.core.errors import DataError, StorageError
from prlm_cli.core.history import Entry, History
from prlm_cli.core.records import Document, Query
from prlm_cli.core.writer import Counts

_LOCK_TIMEOUT = 10.0  # seconds to wait for another connection
_CACHE_KB = 65536
_MANY_ROWS = 500  # asked for at once; SQLite has a limit
_SELECT_DOC = "SELECT rid, doc_id, title, text, date, meta, crc FROM doc"
_DAMAGED = "index the data into a new workspace"


class Erased(NamedTuple):
    """What went with a user or a document."""

    documents: int
    queries: int


class Store:
    """An open store. Use it as a context manager.

    Args:
        path: The SQLite file.
        create: Make it where it is missing, and open it for writing.
        language: What the texts of a new store are in, a name in `terms.LANGUAGES`; default English.

    Raises:
        DataError: If there is no index and `create` is not set.
        StorageError: If the file is not a store of this version, is corrupt or locked.
    """

    def __init__(self, path: Path, *, create: bool = False, language: str | None = None) -> None:
        self.path = path
        if not create and not path.exists():
            raise DataError(f"no index in {path.parent}", hint="run `prlm index DATA` first")
        with self._storage_errors():
            self._db = self._connect(create)
            try:
                self._prepare(create, language or schema.DEFAULT_LANGUAGE)
            except BaseException:
                self._db.close()
                raise

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    @property
    def language(self) -> str:
        """The language that the texts are in."""
        return schema.language(self._db)

    @property
    def tokenizer(self) -> terms.Tokenizer:
        """What makes terms of a text here.

        Raises:
            StorageError: If the stored terms were made by another one.
        """
        with self._storage_errors():
            if not schema.is_current(self._db):
                raise StorageError(f"{self.path} was made by another tokeniser", hint="run `prlm index --rebuild`")
            return terms.tokenizer(self.language)

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """A block in which all reads see the state of its beginning; within another it is a part of that."""
        if self._db.in_transaction:
            yield
            return
        with self._storage_errors():
            self._db.execute("BEGIN")
        try:
            yield
        finally:
            with contextlib.suppress(sqlite3.ProgrammingError):  # the store was closed meanwhile
                self._db.execute("COMMIT")

    def add_documents(self, documents: Iterable[Document]) -> Counts:
        """Adds or updates documents in one transaction; one that is stored as it is costs no write."""
        with self._storage_errors():
            tokenizer = self.tokenizer
            with schema.transaction(self._db):
                return writer.put_documents(self._db, tokenizer, documents)

    def add_queries(self, queries: Iterable[Query]) -> Counts:
        """Adds or updates queries in one transaction."""
        with self._storage_errors(), schema.transaction(self._db):
            return sum((writer.put_query(self._db, query) for query in queries), Counts())

    def rebuild(self, language: str | None = None) -> int:
        """Makes everything derived from the texts anew, in a language if one is given; returns how many documents."""
        with self._storage_errors():
            return schema.rebuild(self._db, language or self.language)

    def settle(self) -> None:
        """Moves what was committed from the log into the file; a reader that is busy puts it off."""
        with self._storage_errors():
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._db.execute("PRAGMA optimize")

    def history(self, user_id: str) -> History:
        """What retrieval reads of one user's documents; empty for an unknown user.

        Raises:
            StorageError: If a row is damaged or missing.
        """
        with self._storage_errors():
            found = self._db.execute("SELECT uid, documents FROM user WHERE user_id = ?", (user_id,)).fetchone()
            if found is None:
                return History(user_id, [])
            uid, documents = found
            rows = self._db.execute(
                "SELECT rid, until, fingerprint, hashes, crc FROM term WHERE rid >= ? AND rid < ?", _rids(uid)
            ).fetchall()
            entries = [
                Entry(rid, until, fingerprint, hashes)
                for rid, until, fingerprint, hashes, crc in rows
                if schema.term_crc(rid, until, fingerprint, hashes) == crc
            ]
            if len(entries) != documents:
                raise StorageError(f"{self.path}: damaged rows", hint=_DAMAGED)
            return History(user_id, entries, lambda: self._doc_ids(uid))

    def documents(self, user_id: str, doc_ids: Sequence[str] | None = None) -> list[Document]:
        """Documents of one user: those of `doc_ids` in that order, or all in the order they came in."""
        with self._storage_errors():
            uid = self._uid(user_id)
            where = "WHERE uid = ? ORDER BY rid" if doc_ids is None else "WHERE uid = ? AND doc_id = ?"
            keys: list[tuple[Any, ...]]
            keys = [(uid,)] if doc_ids is None else [(uid, doc_id) for doc_id in doc_ids]
            return [_document(user_id, row) for key in keys for _, row in self._rows(where, key)]

    def documents_at(self, user_id: str, rids: Sequence[int]) -> list[Document]:
        """The documents of one user in these rows, in their order; a row of anybody else is not found."""
        with self._storage_errors():
            uid = self._uid(user_id)
            found: dict[int, tuple[Any, ...]] = {}
            for some in (rids[n : n + _MANY_ROWS] for n in range(0, len(rids), _MANY_ROWS)):
                found |= self._rows(f"WHERE rid IN ({','.join('?' * len(some))}) AND uid = ?", (*some, uid))
            return [_document(user_id, found[rid]) for rid in rids if rid in found]

    def meta(self, user_id: str) -> dict[int, dict[str, Any]]:
        """The `meta` of those documents of one user that have one, by row."""
        with self._storage_errors():
            select = "SELECT rid, meta FROM doc WHERE rid >= ? AND rid < ? AND meta IS NOT NULL"
            rows = self._db.execute(select, _rids(self._uid(user_id) or 0))
            return {rid: msgspec.json.decode(meta) for rid, meta in rows}

    def vectors(self, user_id: str, model: str) -> dict[int, bytes]:
        """The vectors of one user's documents that an encoder has made, by row.

        Args:
            user_id: Whose.
            model: The encoder's fingerprint.
        """
        with self._storage_errors():
            select = "SELECT rid, vector FROM vec WHERE rid >= ? AND rid < ? AND model = ?"
            return dict(self._db.execute(select, (*_rids(self._uid(user_id) or 0), model)).fetchall())

    def keep_vectors(self, model: str, vectors: Mapping[int, bytes]) -> None:
        """Keeps vectors of documents, by row, in one transaction, where the file can be written at all.

        A store that was opened for reading keeps them too: they change no answer, they only save work.
        """
        if not _is_writable(self.path):
            return
        with self._storage_errors(), contextlib.closing(self._connect(True)) as db:
            db.execute("PRAGMA secure_delete=ON")
            with schema.transaction(db):
                db.executemany(
                    "INSERT OR REPLACE INTO vec SELECT rid, ?2, ?3 FROM doc WHERE rid = ?1",  # unless it is gone by now
                    ((rid, model, vector) for rid, vector in vectors.items()),
                )

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
            users, documents = self._db.execute("SELECT count(*), coalesce(sum(documents), 0) FROM user").fetchone()
            queries = self._db.execute("SELECT count(*) FROM query").fetchone()[0]
            return {"users": users, "documents": documents, "queries": queries}

    def sizes(self) -> Iterator[tuple[str, int, int]]:
        """Each user's id, number of documents and number of queries, in the order the users came in."""
        with self._storage_errors():
            queries = "(SELECT count(*) FROM query WHERE query.uid = user.uid)"
            yield from self._db.execute(f"SELECT user_id, documents, {queries} FROM user ORDER BY uid")

    def splits(self) -> dict[str | None, int]:
        """How many queries each split has."""
        with self._storage_errors():
            return dict(self._db.execute("SELECT split, count(*) FROM query GROUP BY split").fetchall())

    def encoders(self) -> dict[str, int]:
        """How many documents each encoder has made a vector of, by its fingerprint."""
        with self._storage_errors():
            return dict(self._db.execute("SELECT model, count(*) FROM vec GROUP BY model").fetchall())

    def erase(self, user_id: str, doc_id: str | None = None) -> Erased:
        """Deletes a user with all documents and queries, or one document and the queries made from it.

        The bytes are overwritten; they leave the file's log with `truncate_log`, and copies that SQLite made when it
        moved rows between pages with `compact`.
        """
        with self._storage_errors(), schema.transaction(self._db):
            uid = self._uid(user_id)
            if uid is None:
                return Erased(0, 0)
            return self._erase_user(uid) if doc_id is None else self._erase_document(uid, doc_id)

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

    def compact(self, user_id: str) -> None:
        """Writes the file that a user is, or was, in anew, so that nothing is left in it but its rows; empties its log.

        A row that moves to another page, as its neighbours grow, leaves a copy where it was, in a part of the page that
        is not in use; deleting the row does not overwrite that copy. For the moment it takes twice the file's room.

        Args:
            user_id: Whose file, if the index is in several; here it is the only one.

        Raises:
            StorageError: If another process still reads the state of before.
        """
        with self._storage_errors():
            self._db.execute("VACUUM")
        self.truncate_log()

    def quick_check(self) -> str:
        """SQLite's own check of the file: "ok", or what is wrong."""
        with self._storage_errors():
            return str(self._db.execute("PRAGMA quick_check").fetchone()[0])

    def _connect(self, create: bool) -> sqlite3.Connection:
        if create:
            self.path.touch(mode=0o600)
        # A reader of a WAL file writes beside it too, and the last to leave clears that away. Where it may not write,
        # nobody does, and SQLite must be told so.
        writable = create or _is_writable(self.path)
        left_over = self.path.with_name(f"{self.path.name}-wal").exists()
        mode = "rw" if writable else "ro" if left_over else "ro&immutable=1"
        uri = f"{self.path.resolve().as_uri()}?mode={mode}"
        return sqlite3.connect(uri, uri=True, timeout=_LOCK_TIMEOUT, isolation_level=None)

    def _prepare(self, create: bool, language: str) -> None:
        if create and schema.is_empty(self._db):
            schema.create(self._db, language)
        elif schema.check(self._db, self.path) < schema.VERSION:
            schema.migrate(self._db)
        pragmas = ("secure_delete=ON", "synchronous=NORMAL", f"cache_size=-{_CACHE_KB}", f"query_only={not create}")
        for pragma in pragmas:
            self._db.execute(f"PRAGMA {pragma}")

    def _uid(self, user_id: str) -> int | None:
        row = self._db.execute("SELECT uid FROM user WHERE user_id = ?", (user_id,)).fetchone()
        return row[0] if row else None

    def _doc_ids(self, uid: int) -> dict[int, str]:
        with self._storage_errors():
            return dict(self._db.execute("SELECT rid, doc_id FROM doc WHERE uid = ?", (uid,)).fetchall())

    def _rows(self, where: str, key: Sequence[int | str | None]) -> Iterator[tuple[int, tuple[Any, ...]]]:
        """Row ids and rows of `doc`, each held against its CRC."""
        for rid, doc_id, title, text, date, meta, crc in self._db.execute(f"{_SELECT_DOC} {where}", key):
            if schema.doc_crc(rid, doc_id, title, text, date, meta) != crc:
                raise StorageError(f"{self.path}: damaged rows", hint=_DAMAGED)
            yield rid, (doc_id, title, text, date, meta)

    def _erase_user(self, uid: int) -> Erased:
        rids = _rids(uid)
        for table in ("doc", "term", "vec"):
            self._db.execute(f"DELETE FROM {table} WHERE rid >= ? AND rid < ?", rids)
        documents = self._db.execute("DELETE FROM user WHERE uid = ? RETURNING documents", (uid,)).fetchone()[0]
        return Erased(documents, self._db.execute("DELETE FROM query WHERE uid = ?", (uid,)).rowcount)

    def _erase_document(self, uid: int, doc_id: str) -> Erased:
        found = self._db.execute("SELECT rid, text FROM doc WHERE uid = ? AND doc_id = ?", (uid, doc_id)).fetchone()
        if not found:
            return Erased(0, 0)
        rid, text = found
        for table in ("doc", "term", "vec"):
            self._db.execute(f"DELETE FROM {table} WHERE rid = ?", (rid,))
        self._db.execute("UPDATE user SET documents = documents - 1 WHERE uid = ?", (uid,))
        queries = self._db.execute("SELECT qid, record FROM query WHERE uid = ?", (uid,)).fetchall()
        made = [
            (qid,) for qid, record in queries if is_made_from(msgspec.json.decode(record, type=Query), doc_id, text)
        ]
        self._db.executemany("DELETE FROM query WHERE qid = ?", made)
        return Erased(1, len(made))

    @contextlib.contextmanager
    def _storage_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            locked = "locked" in str(error)
            hint = "another prlm is writing; try again when it is done" if locked else "check the disk and permissions"
            raise StorageError(f"{self.path}: {error}", hint=hint) from error
        except (sqlite3.DatabaseError, OSError) as error:
            raise StorageError(f"{self.path}: {error}", hint=_DAMAGED) from error


def _is_writable(path: Path) -> bool:
    return all(os.access(place, os.W_OK) for place in (path, path.parent))


def _rids(uid: int) -> tuple[int, int]:
    """The first row id of a user, and the first of the next."""
    return uid << schema.NUMBER_BITS, (uid + 1) << schema.NUMBER_BITS


def is_made_from(query: Query, doc_id: str, text: str) -> bool:
    """Whether a query was made from a document of its user: it says so, or it has the document's text."""
    return query.source_doc_id == doc_id or terms.fingerprint_of(query.text) == terms.fingerprint_of(text)


def _document(user_id: str, row: Sequence[Any]) -> Document:
    doc_id, title, text, date, meta = row
    return Document(
        user_id=user_id,
        doc_id=doc_id,
        title=title,
        text=text,
        date=None if date is None else msgspec.json.decode(date),
        meta=msgspec.json.decode(meta) if meta else {},
    )
