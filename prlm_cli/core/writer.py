"""What an upsert writes: blocks of documents and queries, compared with what is stored; an equal one costs nothing.

Runs inside a transaction of its caller.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from prlm_cli.core import schema
from prlm_cli.core.errors import StorageError
from prlm_cli.core.records import Date, Document, Query
from prlm_cli.core.terms import Tokenizer

_ENCODER = msgspec.json.Encoder()


class Counts(NamedTuple):
    """What an `add` did."""

    added: int = 0
    updated: int = 0
    unchanged: int = 0

    def __add__(self, other: Any) -> Counts:
        return Counts(*(a + b for a, b in zip(self, other, strict=True)))


class _Row(NamedTuple):
    """A document as the `doc` table has it, with the date as it was given."""

    doc_id: str
    title: str | None
    text: str
    date: str | None
    meta: str | None
    stated: Date | None


def put_documents(db: sqlite3.Connection, tokenizer: Tokenizer, documents: Iterable[Document]) -> Counts:
    """Adds or updates documents; of two with one id the later counts. Row numbers depend on the input's order alone."""
    by_user: dict[str, dict[str, _Row]] = {}
    repeats = Counts()
    for document in documents:
        rows = by_user.setdefault(document.user_id, {})
        row = _row(document)
        if earlier := rows.get(document.doc_id):
            repeats += Counts(unchanged=1) if earlier == row else Counts(updated=1)
        rows[document.doc_id] = row
    block = _Block()
    for user_id, rows in by_user.items():
        block.compare(db, user_id, rows)
    block.write(db, tokenizer)
    return repeats + Counts(len(block.new), len(block.changed), block.unchanged)


class _Block:
    """What of a block is new and what has changed, by row id: whose it is, and the row."""

    def __init__(self) -> None:
        self.new: dict[int, _Row] = {}
        self.changed: dict[int, _Row] = {}
        self.unchanged = 0
        self._users: list[schema.User] = []  # who have new documents

    def compare(self, db: sqlite3.Connection, user_id: str, rows: dict[str, _Row]) -> None:
        """Holds one user's rows against what is stored."""
        user = user_row(db, user_id)
        stored = _stored(db, user.uid, rows) if user.documents else {}
        n = user.n
        for doc_id, row in rows.items():
            if doc_id not in stored:
                n += 1
                self.new[user.uid << schema.NUMBER_BITS | n] = row
            elif stored[doc_id][1:] != row[:5]:
                self.changed[stored[doc_id][0]] = row
            else:
                self.unchanged += 1
        if n >> schema.NUMBER_BITS:
            raise StorageError("a user has no room for more documents", hint="give the new ones another user_id")
        if n > user.n:
            self._users.append(user._replace(n=n, documents=user.documents + n - user.n))

    def write(self, db: sqlite3.Connection, tokenizer: Tokenizer) -> None:
        """Writes what differs, in the order of the rows."""
        rows = sorted((self.new | self.changed).items())
        schema.keep_users(db, self._users)
        db.executemany(
            "INSERT OR REPLACE INTO doc VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            ((rid, rid >> schema.NUMBER_BITS, *row[:5], schema.doc_crc(rid, *row[:5])) for rid, row in rows),
        )
        db.executemany(
            "INSERT OR REPLACE INTO term VALUES (?, ?, ?, ?, ?)",
            schema.derived([schema.Source(rid, row.title, row.text, row.stated) for rid, row in rows], tokenizer),
        )
        db.executemany("DELETE FROM vec WHERE rid = ?", ((rid,) for rid in self.changed))


def put_query(db: sqlite3.Connection, query: Query) -> Counts:
    """Adds or updates a query."""
    uid = user_row(db, query.user_id).uid
    record = _ENCODER.encode(query).decode()
    stored = db.execute("SELECT qid, record FROM query WHERE query_id = ?", (query.query_id,)).fetchone()
    if stored and stored[1] == record:
        return Counts(unchanged=1)
    db.execute(
        "INSERT INTO query(query_id, uid, split, record, crc) VALUES (?, ?, ?, ?, ?) ON CONFLICT(query_id)"
        " DO UPDATE SET uid = excluded.uid, split = excluded.split, record = excluded.record, crc = excluded.crc",
        (query.query_id, uid, query.split, record, schema.query_crc(query.query_id, uid, query.split, record)),
    )
    return Counts(updated=1) if stored else Counts(added=1)


def drop_query(db: sqlite3.Connection, query: Query) -> Counts:
    """Removes a query that another shard has now; that one counts as added what is an update of both together."""
    dropped = db.execute("DELETE FROM query WHERE query_id = ?", (query.query_id,)).rowcount
    return Counts(added=-dropped, updated=dropped)


def user_row(db: sqlite3.Connection, user_id: str) -> schema.User:
    """A user's row; a new one, if there was none."""
    found = schema.find_user(db, user_id)
    if found is None:
        crc = schema.User(0, user_id, 0, 0).crc
        uid = db.execute("INSERT INTO user(user_id, crc) VALUES (?, ?) RETURNING uid", (user_id, crc)).fetchone()[0]
        return schema.User(uid, user_id, 0, 0)
    return found


def encode(value: Any) -> str | None:
    """A value as the store keeps it: JSON, NULL for nothing."""
    return None if value is None else _ENCODER.encode(value).decode()


def _row(document: Document) -> _Row:
    date = document.date
    meta = encode(document.meta) if document.meta else None
    return _Row(document.doc_id, document.title, document.text, encode(date), meta, date)


def _stored(db: sqlite3.Connection, uid: int, doc_ids: Iterable[str]) -> dict[str, tuple[Any, ...]]:
    select = "SELECT rid, doc_id, title, text, date, meta, crc FROM doc WHERE uid = ? AND doc_id = ?"
    found = [row for doc_id in doc_ids if (row := db.execute(select, (uid, doc_id)).fetchone())]
    if any(schema.doc_crc(*row[:6]) != row[6] for row in found):
        raise schema.damaged()
    return {row[1]: row[:6] for row in found}
