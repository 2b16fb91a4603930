"""The store's schema: made, checked, and brought forward from older versions in one transaction.

    user   one row a user: the next row number, and how many documents there are
    doc    a document as it came in; `rid` is `uid << 24 | number`, so a user's rows are neighbours
    term   what retrieval reads of it: last instant of its date, fingerprint of its text, sorted term hashes
    vec    its vectors, one for each encoder that was used
    query  a query as it came in

Rows carry a CRC, since SQLite's pages have none; `user.documents` says how many of a user there should be.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from prlm_cli.core import terms
from prlm_cli.core.dates import parse_period
from prlm_cli.core.errors import StorageError
from prlm_cli.core.records import Date

APPLICATION_ID = 0x70726C6D  # "prlm"
VERSION = 2
NUMBER_BITS = 24
"""A user has room for 2**24 documents, ever: a number is not used twice."""

DEFAULT_LANGUAGE = "english"
_NO_DATE = 2**62  # an instant that no date has
_VECTORS = """
CREATE TABLE vec(rid INTEGER NOT NULL, model TEXT NOT NULL, vector BLOB NOT NULL, crc INTEGER NOT NULL,
                 PRIMARY KEY(rid, model)) WITHOUT ROWID;
"""
_TABLES = f"""
CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE user(uid INTEGER PRIMARY KEY, user_id TEXT NOT NULL UNIQUE, n INTEGER NOT NULL DEFAULT 0,
                  documents INTEGER NOT NULL DEFAULT 0, crc INTEGER NOT NULL DEFAULT 0);
CREATE TABLE doc(rid INTEGER PRIMARY KEY, uid INTEGER NOT NULL, doc_id TEXT NOT NULL, title TEXT, text TEXT NOT NULL,
                 date TEXT, meta TEXT, crc INTEGER NOT NULL DEFAULT 0);
CREATE UNIQUE INDEX doc_key ON doc(uid, doc_id);
CREATE TABLE term(rid INTEGER PRIMARY KEY, until INTEGER, fingerprint BLOB NOT NULL, hashes BLOB NOT NULL,
                  crc INTEGER NOT NULL DEFAULT 0);
{_VECTORS}CREATE TABLE query(qid INTEGER PRIMARY KEY, query_id TEXT NOT NULL UNIQUE, uid INTEGER NOT NULL, split TEXT,
                   record TEXT NOT NULL, crc INTEGER NOT NULL DEFAULT 0);
CREATE INDEX query_user ON query(uid);
"""
_FROM_1_TO_2 = f"""
ALTER TABLE user ADD COLUMN documents INTEGER NOT NULL DEFAULT 0;
UPDATE user SET documents = (SELECT count(*) FROM doc WHERE doc.uid = user.uid);
ALTER TABLE user ADD COLUMN crc INTEGER NOT NULL DEFAULT 0;
ALTER TABLE doc ADD COLUMN crc INTEGER NOT NULL DEFAULT 0;
ALTER TABLE term ADD COLUMN crc INTEGER NOT NULL DEFAULT 0;
ALTER TABLE query ADD COLUMN crc INTEGER NOT NULL DEFAULT 0;
UPDATE query SET crc = query_crc(query_id, uid, split, record);
{_VECTORS}INSERT INTO meta VALUES ('language', 'english');
"""


class User(NamedTuple):
    """A `user` row. `n` is the last row number that was used."""

    uid: int
    user_id: str
    n: int
    documents: int

    @property
    def crc(self) -> int:
        """The CRC of the row; its `uid` is where the row lies."""
        return zlib.crc32(f"{self.n}\x00{self.documents}\x00{self.user_id}".encode())


def create(db: sqlite3.Connection, language: str, shard: str | None = None) -> None:
    """Makes an empty store in an empty file; `shard` says which part of an index it is."""
    for pragma in ("page_size=8192", "journal_mode=WAL", f"application_id={APPLICATION_ID}"):
        db.execute(f"PRAGMA {pragma}")
    with transaction(db):
        _execute_all(db, _TABLES)
        _set_language(db, language)
        if shard:
            db.execute("INSERT INTO meta VALUES ('shard', ?)", (shard,))
        db.execute(f"PRAGMA user_version={VERSION}")


def check(db: sqlite3.Connection, path: Path) -> int:
    """The version of a store that this program can read, or bring forward.

    Raises:
        StorageError: If the file is no store, or one of a newer program.
    """
    version = _pragma(db, "user_version")
    if _pragma(db, "application_id") != APPLICATION_ID or version < 1:
        raise StorageError(f"{path} is not a prlm index", hint="name another workspace with -w")
    if version > VERSION:
        raise StorageError(f"{path} has format {version}, this program reads {VERSION}", hint="upgrade prlm")
    return version


def is_empty(db: sqlite3.Connection) -> bool:
    """Whether the file holds no table yet."""
    return not db.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone()


def migrate(db: sqlite3.Connection) -> None:
    """Brings an older store to this version; another process that does the same waits and finds nothing to do."""
    with transaction(db):
        if _pragma(db, "user_version") == 1:
            db.create_function("query_crc", 4, query_crc)
            _execute_all(db, _FROM_1_TO_2)
            db.create_function("doc_crc", 6, doc_crc)
            db.execute("UPDATE doc SET crc = doc_crc(rid, doc_id, title, text, date, meta)")
            _write_derived(db, DEFAULT_LANGUAGE)
            keep_users(db, [User(*row) for row in db.execute("SELECT uid, user_id, n, documents FROM user")])
            db.execute(f"PRAGMA user_version={VERSION}")


def rebuild(db: sqlite3.Connection, language: str) -> int:
    """Makes everything that is derived from the texts anew, in one transaction; returns how many documents.

    Raises:
        sqlite3.DatabaseError: If a text is damaged.
    """
    with transaction(db):
        db.execute("DELETE FROM term")  # those that belong to nothing, too
        return _write_derived(db, language)


def language(db: sqlite3.Connection) -> str:
    """The language that the store's texts are in."""
    found = db.execute("SELECT value FROM meta WHERE key = 'language'").fetchone()
    if found is None or found[0] not in terms.LANGUAGES:
        raise damaged()
    return str(found[0])


def shard(db: sqlite3.Connection) -> str | None:
    """Which part of an index the store is; None for all of it."""
    found = db.execute("SELECT value FROM meta WHERE key = 'shard'").fetchone()
    return str(found[0]) if found else None


def is_current(db: sqlite3.Connection) -> bool:
    """Whether the stored terms are those that this program would make."""
    stored = db.execute("SELECT value FROM meta WHERE key = 'terms'").fetchone()
    return bool(stored == (terms.tokenizer(language(db)).fingerprint,))


class transaction:
    """A block that is written as a whole or not at all."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._db.execute("COMMIT")
        finally:
            if self._db.in_transaction:  # a full disk has rolled it back already
                self._db.execute("ROLLBACK")


def damaged() -> sqlite3.DatabaseError:
    """What SQLite itself would raise for a damaged page."""
    return sqlite3.DatabaseError("damaged rows")


def find_user(db: sqlite3.Connection, user_id: str) -> User | None:
    """The row of a user; None for an unknown one.

    Raises:
        sqlite3.DatabaseError: If the row that the index names is damaged or somebody else's, or if the index is damaged
            where the user would be.
    """
    found = db.execute("SELECT uid, n, documents, crc FROM user WHERE user_id = ?", (user_id,)).fetchone()
    if found is None:
        _check_neighbours(db, user_id)
        return None
    uid, n, documents, crc = found
    user = User(uid, user_id, n, documents)
    if user.crc != crc:
        raise damaged()
    return user


def _check_neighbours(db: sqlite3.Connection, user_id: str) -> None:
    # The key of a user may be damaged, and then nobody is found. It lies where it lay before, beside where one looks.
    for neighbour in ("user_id > ? ORDER BY user_id", "user_id < ? ORDER BY user_id DESC"):
        select = f"SELECT uid, user_id, n, documents, crc FROM user WHERE {neighbour} LIMIT 1"
        found = db.execute(select, (user_id,)).fetchone()
        if found and User(*found[:4]).crc != found[4]:
            raise damaged()


def keep_users(db: sqlite3.Connection, users: Iterable[User]) -> None:
    """Writes the counts of users who are there."""
    rows = ((user.n, user.documents, user.crc, user.uid) for user in users)
    db.executemany("UPDATE user SET n = ?, documents = ?, crc = ? WHERE uid = ?", rows)


def doc_crc(rid: int, doc_id: str, title: str | None, text: str, date: str | None, meta: str | None) -> int:
    """The CRC of a `doc` row."""
    return zlib.crc32(f"{doc_id}\x00{title}\x00{text}\x00{date}\x00{meta}".encode(), rid & 0xFFFFFFFF)


def term_crc(rid: int, until: int | None, fingerprint: bytes, hashes: bytes) -> int:
    """The CRC of a `term` row."""
    facts = rid ^ (_NO_DATE if until is None else until)  # folded, so that no bit of it goes unseen
    return zlib.crc32(hashes, zlib.crc32(fingerprint, (facts ^ facts >> 32) & 0xFFFFFFFF))


def vector_crc(rid: int, model: str, vector: bytes) -> int:
    """The CRC of a `vec` row."""
    return zlib.crc32(vector, zlib.crc32(f"{rid}\x00{model}".encode()))


def query_crc(query_id: str, uid: int, split: str | None, record: str) -> int:
    """The CRC of a `query` row."""
    return zlib.crc32(f"{query_id}\x00{uid}\x00{split}\x00{record}".encode())


class Source(NamedTuple):
    """What a `term` row is made from."""

    rid: int
    title: str | None
    text: str
    date: Date | None


def derived(
    sources: Sequence[Source], tokenizer: terms.Tokenizer
) -> Iterator[tuple[int, int | None, bytes, bytes, int]]:
    """The `term` rows of documents."""
    texts = [f"{source.title}\n{source.text}" if source.title else source.text for source in sources]
    for (rid, _, text, date), hashes in zip(sources, tokenizer.packed_terms(texts), strict=True):
        until = None if date is None else parse_period(date).end
        fingerprint = terms.fingerprint_of(text)
        yield rid, until, fingerprint, hashes, term_crc(rid, until, fingerprint, hashes)


def _write_derived(db: sqlite3.Connection, language: str) -> int:
    tokenizer = terms.tokenizer(language)
    _set_language(db, language)
    count, last = 0, -1
    select = "SELECT rid, doc_id, title, text, date, meta, crc FROM doc WHERE rid > ? ORDER BY rid LIMIT 1000"
    while rows := db.execute(select, (last,)).fetchall():
        if any(doc_crc(*row) != crc for *row, crc in rows):
            raise damaged()
        sources = [Source(rid, title, text, _decode(date)) for rid, _, title, text, date, *_ in rows]
        db.executemany("INSERT OR REPLACE INTO term VALUES (?, ?, ?, ?, ?)", derived(sources, tokenizer))
        count, last = count + len(rows), rows[-1][0]
    return count


def _decode(date: str | None) -> Date | None:
    found: Date | None = None if date is None else msgspec.json.decode(date)
    return found


def _set_language(db: sqlite3.Connection, language: str) -> None:
    for key, value in (("language", language), ("terms", terms.tokenizer(language).fingerprint)):
        db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))


def _execute_all(db: sqlite3.Connection, statements: str) -> None:
    # Not `executescript`: that commits first.
    for statement in statements.split(";"):
        if statement.strip():
            db.execute(statement)


def _pragma(db: sqlite3.Connection, name: str) -> int:
    return int(db.execute(f"PRAGMA {name}").fetchone()[0])
