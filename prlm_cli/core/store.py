"""The store: one SQLite file with every user's documents, their terms, and queries.

Every read of profiles takes exactly one user id. Readers go on while a writer writes, and do not see it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from prlm_cli.core import schema, terms, writer
from prlm_cli.core.connection import Connection, is_writable, unless_locked
from prlm_cli.core.errors import DataError, StorageError
from prlm_cli.core.history import Entry, History
from prlm_cli.core.partition import Shard
from prlm_cli.core.records import Document, Query
from prlm_cli.core.writer import Counts

CACHE_KB = 32768
"""How much of its files an index keeps in memory."""

_MANY_ROWS = 500  # asked for at once; SQLite has a limit
_SELECT_DOC = "SELECT rid, doc_id, title, text, date, meta, crc FROM doc"


class Erased(NamedTuple):
    """What went with a user or a document."""

    documents: int
    queries: int


class Store(Connection):
    """An open store. Use it as a context manager.

    Args:
        path: The SQLite file.
        create: Make it where it is missing, and open it for writing.
        language: What the texts of a new store are in, a name in `terms.LANGUAGES`; default English.
        shard: Which part of an index it is; None for all of it.
        cache_kb: How much of the file it keeps in memory.

    Raises:
        DataError: If there is no index and `create` is not set.
        StorageError: If the file is not a store of this version, or of another shard, or is corrupt or locked.
    """

    def __init__(
        self,
        path: Path,
        *,
        create: bool = False,
        language: str | None = None,
        shard: Shard | None = None,
        cache_kb: int = CACHE_KB,
    ) -> None:
        if not create and not path.exists():
            raise _no_index(path)
        super().__init__(path, create=create)
        self._shard = shard
        with contextlib.ExitStack() as stack, self._storage_errors():
            stack.callback(self._db.close)
            self._prepare(create, language or schema.DEFAULT_LANGUAGE, cache_kb)
            stack.pop_all()  # only what cannot be used is closed again

    @property
    def language(self) -> str:
        """The language that the texts are in."""
        with self._storage_errors():
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

    def add(self, records: Iterable[Document | Query]) -> tuple[Counts, Counts]:
        """Adds or updates records in one transaction; one that is stored as it is costs no write.

        What is stored depends on the order of the records, not on how they are cut into blocks.

        Args:
            records: Documents and queries. A shard is given the documents of its own users, but the queries of all: one
                of another shard's user may have been of one of its own before.

        Returns:
            What became of the documents, and of the queries.
        """
        block = list(records)
        queries = [record for record in block if isinstance(record, Query)]
        with self._storage_errors():
            tokenizer = self.tokenizer
            with schema.transaction(self._db):
                if queries:  # documents alone bring their users in, in this order
                    for user_id in dict.fromkeys(record.user_id for record in block if self._is_own(record)):
                        writer.user_row(self._db, user_id)
                documents = (record for record in block if isinstance(record, Document))
                return (
                    writer.put_documents(self._db, tokenizer, documents),
                    sum((self._add_query(query) for query in queries), Counts()),
                )

    def add_documents(self, documents: Iterable[Document]) -> Counts:
        """Adds or updates documents, as `add` does."""
        return self.add(documents)[0]

    def add_queries(self, queries: Iterable[Query]) -> Counts:
        """Adds or updates queries, as `add` does."""
        return self.add(queries)[1]

    def rebuild(self, language: str | None = None) -> int:
        """Makes everything derived from the texts anew, in a language if one is given; returns how many documents."""
        with self._storage_errors():
            return schema.rebuild(self._db, language or self.language)

    def history(self, user_id: str) -> History:
        """What retrieval reads of one user's documents; empty for an unknown user.

        Raises:
            StorageError: If a row is damaged or missing.
        """
        with self._storage_errors(), self.snapshot():
            user = schema.find_user(self._db, user_id)
            if user is None:
                return History(user_id, [])
            rows = self._db.execute(
                "SELECT rid, until, fingerprint, hashes, crc FROM term WHERE rid >= ? AND rid < ?", _rids(user.uid)
            ).fetchall()
            try:
                entries = [
                    Entry(rid, until, fingerprint, hashes)
                    for rid, until, fingerprint, hashes, crc in rows
                    if schema.term_crc(rid, until, fingerprint, hashes) == crc
                ]
            except TypeError as error:  # a value of another type
                raise schema.damaged() from error
            if len(entries) != user.documents:
                raise schema.damaged()
            return History(user_id, entries, lambda: self._doc_ids(user.uid))

    def documents(self, user_id: str, doc_ids: Sequence[str] | None = None) -> list[Document]:
        """Documents of one user: those of `doc_ids` in that order, or all in the order they came in.

        Raises:
            StorageError: If a row is damaged or missing.
        """
        with self._storage_errors(), self.snapshot():
            user = schema.find_user(self._db, user_id)
            if user is None:
                return []
            if doc_ids is None:
                return [_document(user_id, row) for row in self._rows_of(user).values()]
            rids = {doc_id: rid for rid, doc_id in self._doc_ids(user.uid).items()}
            return self.documents_at(user_id, [rids[doc_id] for doc_id in doc_ids if doc_id in rids])

    def documents_at(self, user_id: str, rids: Sequence[int]) -> list[Document]:
        """The documents of one user in the rows that a history of the same snapshot names, in their order.

        Raises:
            StorageError: If a row is damaged, missing, or anybody else's.
        """
        with self._storage_errors():
            own = range(*_rids(self._uid(user_id) or 0))
            found: dict[int, tuple[Any, ...]] = {}
            for some in (rids[n : n + _MANY_ROWS] for n in range(0, len(rids), _MANY_ROWS)):
                found |= self._rows(f"WHERE rid IN ({','.join('?' * len(some))})", some)
            if not all(rid in own and rid in found for rid in rids):
                raise schema.damaged()
            return [_document(user_id, found[rid]) for rid in rids]

    def meta(self, user_id: str) -> dict[int, dict[str, Any]]:
        """The `meta` of those documents of one user that have one, by row.

        Raises:
            StorageError: If a row is damaged or missing.
        """
        with self._storage_errors(), self.snapshot():
            user = schema.find_user(self._db, user_id)
            rows = self._rows_of(user) if user else {}
            return {rid: msgspec.json.decode(meta) for rid, (*_, meta) in rows.items() if meta}

    def vectors(self, user_id: str, model: str) -> dict[int, bytes]:
        """The vectors of one user's documents that an encoder has made, by row; a damaged one is as good as none.

        Args:
            user_id: Whose.
            model: The encoder's fingerprint.
        """
        with self._storage_errors():
            select = "SELECT rid, vector, crc FROM vec WHERE rid >= ? AND rid < ? AND model = ?"
            rows = self._db.execute(select, (*_rids(self._uid(user_id) or 0), model))
            sound = (
                (rid, v) for rid, v, crc in rows if isinstance(v, bytes) and schema.vector_crc(rid, model, v) == crc
            )
            return dict(sound)

    def keep_vectors(self, user_id: str, model: str, vectors: Mapping[int, bytes]) -> None:
        """Keeps vectors of one user's documents, by row, in one transaction, where the file can be written just now.

        A store that was opened for reading keeps them too: they change no answer, they only save work.
        """
        if not is_writable(self.path):
            return
        with self._storage_errors():
            rids = range(*_rids(self._uid(user_id) or 0))
            rows = "SELECT rid, crc FROM doc WHERE rid >= ? AND rid < ?"
            crcs = dict(self._db.execute(rows, (rids.start, rids.stop)).fetchall())
            kept = [
                (rid, model, vector, schema.vector_crc(rid, model, vector), crcs[rid])
                for rid, vector in vectors.items()
                if rid in crcs
            ]
            with contextlib.closing(self._connect(True)) as db, unless_locked():
                db.execute("PRAGMA secure_delete=ON")
                with schema.transaction(db):
                    db.executemany(  # unless the document is gone or has changed by now
                        "INSERT OR REPLACE INTO vec SELECT rid, ?2, ?3, ?4 FROM doc WHERE rid = ?1 AND crc = ?5", kept
                    )

    def queries(self, *, split: str | None = None, user_id: str | None = None) -> Iterator[Query]:
        """Stored queries in the order they came in, of one split and of one user where given.

        Raises:
            StorageError: If a row is damaged.
        """
        with self._storage_errors():
            uid = None if user_id is None else self._uid(user_id)
            if user_id is not None and uid is None:
                return
            of_user = "" if user_id is None else "uid = :uid AND"
            rows = self._db.execute(
                "SELECT query_id, uid, split, record, crc FROM query"
                f" WHERE {of_user} (:split IS NULL OR split = :split) ORDER BY qid",
                {"split": split, "uid": uid},
            )
            for query_id, uid, its_split, record, crc in rows:
                if schema.query_crc(query_id, uid, its_split, record) != crc:
                    raise schema.damaged()
                yield msgspec.json.decode(record, type=Query)

    def has_queries(self, split: str) -> bool:
        """Whether a query of that split is stored."""
        return next(self.queries(split=split), None) is not None

    def has_user(self, user_id: str) -> bool:
        """Whether the user has ever come in."""
        with self._storage_errors():
            return self._uid(user_id) is not None

    def users(self) -> list[str]:
        """All user ids, in the order they came in.

        Raises:
            StorageError: If a row is damaged or missing.
        """
        with self._storage_errors(), self.snapshot():
            rows = self._db.execute("SELECT uid, user_id, n, documents, crc FROM user ORDER BY uid").fetchall()
            count = self._db.execute("SELECT count(*) FROM user").fetchone()[0]  # of the index, which is shorter
            if len(rows) != count or any(schema.User(*row).crc != crc for *row, crc in rows):
                raise schema.damaged()
            return [user_id for _, user_id, *_ in rows]

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
            user = schema.find_user(self._db, user_id)
            if user is None:
                return Erased(0, 0)
            return self._erase_user(user) if doc_id is None else self._erase_document(user, doc_id)

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

    def _prepare(self, create: bool, language: str, cache_kb: int) -> None:
        for pragma in ("secure_delete=ON", "synchronous=NORMAL", f"cache_size=-{cache_kb}"):
            self._db.execute(f"PRAGMA {pragma}")
        name = self._shard and self._shard.name
        if schema.is_empty(self._db):  # a new file, or one whose maker was killed at once
            if not create:
                raise _no_index(self.path)
            schema.create(self._db, language, name)
        elif (version := schema.check(self._db, self.path)) < schema.VERSION:
            if not (create or is_writable(self.path)):
                what = f"{self.path} has the older format {version}, and cannot be written"
                raise StorageError(what, hint="let it be written once, to bring it forward")
            schema.migrate(self._db)
        if (found := schema.shard(self._db)) != name:
            what = f"shard {found}" if found else "a whole index"
            raise StorageError(f"{self.path} holds {what}", hint="put the files of an index back under their own names")
        self._db.execute(f"PRAGMA query_only={not create}")

    def _is_own(self, record: Document | Query) -> bool:
        return self._shard is None or self._shard.holds(record.user_id)

    def _add_query(self, query: Query) -> Counts:
        return writer.put_query(self._db, query) if self._is_own(query) else writer.drop_query(self._db, query)

    def _uid(self, user_id: str) -> int | None:
        user = schema.find_user(self._db, user_id)
        return user.uid if user else None

    def _doc_ids(self, uid: int) -> dict[int, str]:
        # From the table and from its index, and they must agree: the CRC would need the texts.
        rows = "SELECT rid, doc_id FROM doc NOT INDEXED WHERE rid >= ? AND rid < ?"
        keys = "SELECT rid, doc_id FROM doc INDEXED BY doc_key WHERE uid = ?"
        with self._storage_errors(), self.snapshot():
            found: dict[int, str] = dict(self._db.execute(rows, _rids(uid)).fetchall())
            if found != dict(self._db.execute(keys, (uid,)).fetchall()):
                raise schema.damaged()
            return found

    def _rows_of(self, user: schema.User) -> dict[int, tuple[Any, ...]]:
        """All rows of a user in `doc`, by row id, in the order they came in."""
        found = dict(self._rows("WHERE rid >= ? AND rid < ? ORDER BY rid", _rids(user.uid)))
        if len(found) != user.documents:
            raise schema.damaged()
        return found

    def _rows(self, where: str, key: Sequence[int | str | None]) -> Iterator[tuple[int, tuple[Any, ...]]]:
        """Row ids and rows of `doc`, each held against its CRC."""
        for rid, doc_id, title, text, date, meta, crc in self._db.execute(f"{_SELECT_DOC} {where}", key):
            if schema.doc_crc(rid, doc_id, title, text, date, meta) != crc:
                raise schema.damaged()
            yield rid, (doc_id, title, text, date, meta)

    def _erase_user(self, user: schema.User) -> Erased:
        rids = _rids(user.uid)
        for table in ("doc", "term", "vec"):
            self._db.execute(f"DELETE FROM {table} WHERE rid >= ? AND rid < ?", rids)
        self._db.execute("DELETE FROM user WHERE uid = ?", (user.uid,))
        return Erased(user.documents, self._db.execute("DELETE FROM query WHERE uid = ?", (user.uid,)).rowcount)

    def _erase_document(self, user: schema.User, doc_id: str) -> Erased:
        found = next(self._rows("WHERE uid = ? AND doc_id = ?", (user.uid, doc_id)), None)
        if found is None:
            return Erased(0, 0)
        rid, (_, _, text, *_) = found
        for table in ("doc", "term", "vec"):
            self._db.execute(f"DELETE FROM {table} WHERE rid = ?", (rid,))
        schema.keep_users(self._db, [user._replace(documents=user.documents - 1)])
        made = [(query.query_id,) for query in self.queries(user_id=user.user_id) if is_made_from(query, doc_id, text)]
        self._db.executemany("DELETE FROM query WHERE query_id = ?", made)
        return Erased(1, len(made))


def _no_index(path: Path) -> DataError:
    return DataError(f"no index in {path.parent}", hint="run `prlm index DATA` first")


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
