"""What an upsert writes: blocks of documents and queries, compared with what is stored; an equal one costs nothing.

Runs inside a transaction of its caller.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from prlm_cli.core import schema
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
    return sum((_put_user(db, tokenizer, user_id, rows) for user_id, rows in by_user.items()), repeats)


def put_query(db: sqlite3.Connection, query: Query) -> Counts:
    """Adds or updates a query."""
    uid = user_row(db, query.user_id)[0]
    record = encode(query)
    stored = db.execute("SELECT qid, record FROM query WHERE query_id = ?", (query.query_id,)).fetchone()
    if stored and stored[1] == record:
        return Counts(unchanged=1)
    db.execute(
        "INSERT INTO query(query_id, uid, split, record) VALUES (?, ?, ?, ?) ON CONFLICT(query_id)"
        " DO UPDATE SET uid = excluded.uid, split = excluded.split, record = excluded.record",
        (query.query_id, uid, query.split, record),
    )
    return Counts(updated=1) if stored else Counts(added=1)


def drop_query(db: sqlite3.Connection, query: Query) -> Counts:
    """Removes a query that another shard has now; that one counts as added what is an update of both together."""
    dropped = db.execute("DELETE FROM query WHERE query_id = ?", (query.query_id,)).rowcount
    return Counts(added=-dropped, updated=dropped)


def user_row(db: sqlite3.Connection, user_id: str) -> tuple[int, int, int]:
    """A user's `uid`, next row number and number of documents; a new user's, if there was none."""
    found = db.execute("SELECT uid, n, documents FROM user WHERE user_id = ?", (user_id,)).fetchone()
    if found is None:
        db.execute("INSERT INTO user(user_id) VALUES (?)", (user_id,))
        return user_row(db, user_id)
    uid, n, documents = found
    return uid, n, documents


def encode(value: Any) -> str | None:
    """A value as the store keeps it: JSON, NULL for nothing."""
    return None if value is None else _ENCODER.encode(value).decode()


def _row(document: Document) -> _Row:
    date = document.date
    meta = encode(document.meta) if document.meta else None
    return _Row(document.doc_id, document.title, document.text, encode(date), meta, date)


def _put_user(db: sqlite3.Connection, tokenizer: Tokenizer, user_id: str, rows: dict[str, _Row]) -> Counts:
    uid, n, documents = user_row(db, user_id)
    stored = _stored(db, uid, rows) if documents else {}
    new, changed = [], []
    for doc_id, row in rows.items():
        if doc_id not in stored:
            n += 1
            new.append((uid << schema.NUMBER_BITS | n, row))
        elif stored[doc_id][1:] != row[:5]:
            changed.append((stored[doc_id][0], row))
    _write(db, tokenizer, uid, new, changed)
    if new:
        db.execute("UPDATE user SET n = ?, documents = ? WHERE uid = ?", (n, documents + len(new), uid))
    return Counts(added=len(new), updated=len(changed), unchanged=len(rows) - len(new) - len(changed))


def _stored(db: sqlite3.Connection, uid: int, doc_ids: Iterable[str]) -> dict[str, tuple[Any, ...]]:
    select = "SELECT rid, doc_id, title, text, date, meta FROM doc WHERE uid = ? AND doc_id = ?"
    found = (db.execute(select, (uid, doc_id)).fetchone() for doc_id in doc_ids)
    return {row[1]: row for row in found if row}


def _write(
    db: sqlite3.Connection,
    tokenizer: Tokenizer,
    uid: int,
    new: Sequence[tuple[int, _Row]],
    changed: Sequence[tuple[int, _Row]],
) -> None:
    docs = [(rid, uid, *row[:5], schema.doc_crc(rid, *row[:5])) for rid, row in (*new, *changed)]
    terms = [schema.derived_of(rid, row.title, row.text, row.stated, tokenizer) for rid, row in (*new, *changed)]
    db.executemany("INSERT OR REPLACE INTO doc VALUES (?, ?, ?, ?, ?, ?, ?, ?)", docs)
    db.executemany("INSERT OR REPLACE INTO term VALUES (?, ?, ?, ?, ?)", terms)
    db.executemany("DELETE FROM vec WHERE rid = ?", [(rid,) for rid, _ in changed])
