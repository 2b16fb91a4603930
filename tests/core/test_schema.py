from __future__ import annotations

import os
import sqlite3

import msgspec
import pytest

from prlm_cli.core import schema
from prlm_cli.core.errors import StorageError
from prlm_cli.core.records import Document, Query
from prlm_cli.core.store import Store

_RID, _UNTIL = 5 << 24 | 77, 1_700_000_000_000_000


@pytest.fixture
def path(tmp_path):
    return tmp_path / "index.sqlite"


def _change(path, *statements):
    db = sqlite3.connect(path)
    for statement, values in statements:
        db.execute(statement, values)
    db.commit()
    db.close()


def test_every_bit_of_a_term_row_counts_in_its_crc():
    crc = schema.term_crc(_RID, _UNTIL, b"12345678", b"87654321")

    for bit in range(63):
        assert schema.term_crc(_RID ^ 1 << bit, _UNTIL, b"12345678", b"87654321") != crc
        assert schema.term_crc(_RID, _UNTIL ^ 1 << bit, b"12345678", b"87654321") != crc
    assert schema.term_crc(_RID, None, b"", b"") != schema.term_crc(_RID, 0, b"", b"")


@pytest.mark.parametrize("column", ["until", "fingerprint", "hashes", "crc"])
@pytest.mark.parametrize("value", ["text", 1.5, 7, b"bytes"])
def test_a_value_of_another_type_is_a_damaged_row(path, column, value):
    with Store(path, create=True) as store:
        store.add_documents([Document(user_id="u", doc_id="d", text="parsing trees", date="2024")])
    _change(path, (f"UPDATE term SET {column} = ?", (value,)))

    with Store(path) as store, pytest.raises(StorageError, match="damaged rows; try `prlm index --rebuild`"):
        store.history("u")
    with Store(path, create=True) as store:
        store.rebuild()

        assert len(store.history("u")) == 1


@pytest.mark.parametrize("column", ["n", "documents"])
def test_a_user_whose_counts_are_damaged_is_neither_read_nor_written(path, column):
    with Store(path, create=True) as store:
        store.add_documents([Document(user_id="u", doc_id="d", text="parsing trees")])
    _change(path, (f"UPDATE user SET {column} = {column} + ?", (2,)))

    with Store(path, create=True) as store:
        for ask in (
            lambda: store.history("u"),
            lambda: store.documents("u"),
            lambda: store.has_user("u"),
            lambda: store.add_documents([Document(user_id="u", doc_id="e", text="speech")]),
        ):
            with pytest.raises(StorageError, match="damaged rows"):
                ask()


def test_a_damaged_index_of_users_never_gives_somebody_elses_documents(path):
    with Store(path, create=True) as store:
        store.add_documents(Document(user_id=user_id, doc_id="d", text=user_id) for user_id in ("ann", "bob", "cem"))
        store.settle()
    content = path.read_bytes()
    assert content.count(b"bob\x02") == 1  # bob is the second user: only the index says so beside his name
    path.write_bytes(content.replace(b"bob\x02", b"bob\x03"))

    with Store(path) as store:
        for ask in (store.history, store.documents, store.has_user, store.meta):
            with pytest.raises(StorageError, match="damaged rows"):
                ask("bob")
        assert [document.text for document in store.documents("cem")] == ["cem"]


_FORMAT_1 = """
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
_DOCUMENTS = [
    Document(user_id=user_id, doc_id=f"d{n}", text=f"{user_id} is parsing tree {n}", title=title, date=date, meta=meta)
    for n, (title, date, meta) in enumerate(
        [
            ("Trees", "2023-05", {}),
            (None, 1.5e9, {"lang": "en"}),
            ("\u00e9t\u00e9", None, {}),
            ("Late", "2024-05-17", {}),
        ]
    )
    for user_id in ("ann", "bob")
]
_QUERIES = [
    Query(query_id="q1", user_id="ann", text="parsing", target="t", split="test", date="2024"),
    Query(query_id="q2", user_id="cem", text="speech", source_doc_id="d1"),
]


def _store_of_format_1(path, documents=_DOCUMENTS, queries=_QUERIES):
    """What the first version of the program would have written; its terms were made in another way."""
    db = sqlite3.connect(path, isolation_level=None)
    for pragma in ("page_size=8192", "journal_mode=WAL", "application_id=0x70726C6D", "secure_delete=ON"):
        db.execute(f"PRAGMA {pragma}")
    db.executescript(f"BEGIN; {_FORMAT_1} PRAGMA user_version=1; COMMIT; BEGIN;")
    db.execute("INSERT INTO meta VALUES ('terms', ?)", (r"lower;\w\w+;lucene33;snowball-english;blake2b-64",))
    numbers = {}
    for document in documents:
        db.execute("INSERT OR IGNORE INTO user(user_id) VALUES (?)", (document.user_id,))
        uid = db.execute("SELECT uid FROM user WHERE user_id = ?", (document.user_id,)).fetchone()[0]
        numbers[uid] = numbers.get(uid, 0) + 1
        rid = uid << 24 | numbers[uid]
        date, meta = (msgspec.json.encode(x).decode() if x else None for x in (document.date, document.meta))
        row = (rid, uid, document.doc_id, document.title, document.text, date, meta)
        db.execute("INSERT INTO doc VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        db.execute("INSERT INTO term VALUES (?, 7, x'00', x'0000000000000000')", (rid,))
        db.execute("UPDATE user SET n = ? WHERE uid = ?", (numbers[uid], uid))
    for query in queries:
        db.execute("INSERT OR IGNORE INTO user(user_id) VALUES (?)", (query.user_id,))
        uid = db.execute("SELECT uid FROM user WHERE user_id = ?", (query.user_id,)).fetchone()[0]
        row = (query.query_id, uid, query.split, msgspec.json.encode(query).decode())
        db.execute("INSERT INTO query(query_id, uid, split, record) VALUES (?, ?, ?, ?)", row)
    db.execute("COMMIT")
    db.close()


def _dump(path):
    db = sqlite3.connect(path)
    tables = [name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")]
    columns = {name: [row[1:] for row in db.execute(f"PRAGMA table_info({name})")] for name in tables}
    rows = {name: db.execute(f"SELECT * FROM {name} ORDER BY 1, 2").fetchall() for name in tables}
    version = db.execute("PRAGMA user_version").fetchone()
    db.close()
    return version, columns, rows


@pytest.mark.parametrize("create", [False, True])
def test_a_store_of_the_first_format_becomes_what_a_new_one_of_its_records_is(path, tmp_path, create):
    _store_of_format_1(path)
    fresh = tmp_path / "fresh.sqlite"
    with Store(fresh, create=True) as store:
        store.add([*_DOCUMENTS, *_QUERIES])
    with Store(path, create=create) as store:
        assert store.documents("ann") == [document for document in _DOCUMENTS if document.user_id == "ann"]
        assert list(store.queries()) == _QUERIES
        assert store.count() == {"users": 3, "documents": 8, "queries": 2}
        assert store.quick_check() == "ok"

    assert _dump(path) == _dump(fresh)


def test_a_store_that_was_brought_forward_can_be_written(path):
    _store_of_format_1(path)
    with Store(path, create=True) as store:
        documents, queries = store.add([*_DOCUMENTS, *_QUERIES, Document(user_id="ann", doc_id="new", text="more")])
        assert (documents.unchanged, documents.added, queries.unchanged) == (8, 1, 2)
        assert [entry.rid & 0xFFFFFF for entry in store.history("ann").entries] == [3, 5, 2, 1, 4]


@pytest.mark.parametrize("create", [False, True])
@pytest.mark.parametrize("stage", ["query_crc", "doc_crc", "derived", "keep_users"])
def test_a_migration_that_breaks_off_leaves_the_first_format_as_it_was(path, monkeypatch, create, stage):
    _store_of_format_1(path)
    before = _dump(path)

    def fail(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(schema, stage, fail)
        with pytest.raises((KeyboardInterrupt, StorageError)):  # SQLite hides what its functions raise
            Store(path, create=create)
    assert _dump(path) == before
    with Store(path, create=create) as store:
        assert store.count()["documents"] == 8


def test_an_older_format_that_cannot_be_written_says_what_to_do(path, monkeypatch):
    _store_of_format_1(path)
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)

    with pytest.raises(StorageError) as caught:
        Store(path)
    assert str(caught.value) == (
        f"{path} has the older format 1, and cannot be written; let it be written once, to bring it forward"
    )


def test_who_comes_second_finds_nothing_to_migrate(path):
    _store_of_format_1(path)
    with Store(path) as store:
        before = _dump(path)
        store._db.execute("PRAGMA query_only=OFF")
        schema.migrate(store._db)
        assert _dump(path) == before


def test_what_is_erased_after_a_migration_is_in_no_byte_of_the_file(path):
    mark = "unmistakable"
    _store_of_format_1(
        path, [*_DOCUMENTS, *(Document(user_id="x", doc_id=f"{n}", text=mark * n) for n in range(1, 99))]
    )
    with Store(path, create=True) as store:
        assert store.erase("x").documents == 98
        store.compact("x")

    assert not any(mark.encode() in file.read_bytes() for file in path.parent.iterdir())


@pytest.mark.parametrize("version", [0, -1])
def test_a_store_of_no_version_is_refused(path, version):
    Store(path, create=True).__exit__()
    _change(path, (f"PRAGMA user_version={version}", ()))

    with pytest.raises(StorageError, match="is not a prlm index"):
        Store(path)


def test_a_rebuild_makes_all_terms_anew_and_drops_those_of_nothing(path):
    with Store(path, create=True) as store:
        store.add(_DOCUMENTS)
        before = _dump(path)
        _change(
            path,
            ("UPDATE term SET hashes = ?, until = 5 WHERE rid = ?", (b"", 1 << 24 | 1)),
            ("DELETE FROM term WHERE rid = ?", (1 << 24 | 2,)),
            ("INSERT INTO term VALUES (?, NULL, x'00', x'', 0)", (1 << 24 | 99,)),
        )
        with pytest.raises(StorageError, match="damaged rows"):
            store.history("ann")

        assert store.rebuild() == 8
    assert _dump(path) == before


def test_a_rebuild_never_makes_a_damaged_text_sound(path):
    with Store(path, create=True) as store:
        store.add(_DOCUMENTS)
        _change(path, ("UPDATE doc SET text = 'other' WHERE rid = ?", (1 << 24 | 1,)))
        before = _dump(path)
        with pytest.raises(StorageError, match="damaged rows"):
            store.rebuild()
    assert _dump(path) == before


def test_a_commit_that_fails_is_taken_back():
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.execute("PRAGMA foreign_keys=ON")
    db.execute("CREATE TABLE a(x PRIMARY KEY)")
    db.execute("CREATE TABLE b(x REFERENCES a DEFERRABLE INITIALLY DEFERRED)")
    with pytest.raises(sqlite3.IntegrityError), schema.transaction(db):
        db.execute("INSERT INTO b VALUES (1)")  # noticed at the end

    assert not db.in_transaction
    with schema.transaction(db):
        db.execute("INSERT INTO a VALUES (1)")
    assert db.execute("SELECT * FROM a, b").fetchall() == []
    db.close()
