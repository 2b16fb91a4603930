from __future__ import annotations

import os
import sqlite3
import stat

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prlm_cli.core import connection as module
from prlm_cli.core.errors import DataError, StorageError
from prlm_cli.core.records import Document, Query
from prlm_cli.core.store import Store
from prlm_cli.core.terms import fingerprint_of, tokenizer
from prlm_cli.core.writer import Counts

_DOCUMENTS = [
    Document(user_id="u", doc_id="b", text="parsing trees", title="Trees", date="2024", meta={"lang": "en"}),
    Document(user_id="u", doc_id="a", text="more", date=5),
    Document(user_id="v", doc_id="a", text="speech"),
]
_QUERIES = [
    Query(query_id="q1", user_id="u", text="t", target="g", split="train", meta={"x": [1]}),
    Query(query_id="q2", user_id="w", text="t", date=1.5, source_doc_id="s"),
]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "index.sqlite"


@pytest.fixture
def store(path):
    with Store(path, create=True) as store:
        store.add_documents(_DOCUMENTS)
        store.add_queries(_QUERIES)
        yield store


def test_what_was_added_is_read_back_by_user_in_the_order_it_came(store):
    assert store.documents("u") == _DOCUMENTS[:2]
    assert store.documents("u", ["a", "no", "b", "a"]) == [_DOCUMENTS[1], _DOCUMENTS[0], _DOCUMENTS[1]]
    assert store.documents("v") == _DOCUMENTS[2:]
    assert store.documents("nobody") == store.history("nobody").entries == []
    assert store.users() == ["u", "v", "w"]
    assert store.count() == {"users": 3, "documents": 3, "queries": 2}


def test_adding_the_same_again_changes_nothing(store):
    assert store.add_documents(_DOCUMENTS) == Counts(unchanged=3)
    assert store.add_queries(_QUERIES) == Counts(unchanged=2)
    assert store.documents("u") == _DOCUMENTS[:2]


@pytest.mark.parametrize("changed", [{"text": "other"}, {"title": None}, {"date": "2025"}, {"meta": {}}], ids=str)
def test_a_changed_document_is_updated_in_its_place_and_counted(store, changed):
    new = msgspec.structs.replace(_DOCUMENTS[0], **changed)

    assert store.add_documents([new, _DOCUMENTS[1]]) == Counts(updated=1, unchanged=1)
    assert store.documents("u") == [new, _DOCUMENTS[1]]
    past = store.history("u")
    entry = past.entries[past.positions["b"]]
    assert entry.terms == tokenizer("english").terms(f"{new.title or ''}\n{new.text}")
    assert entry.fingerprint == fingerprint_of(new.text)
    assert len(past) == 2


@pytest.mark.parametrize("changed", [{"text": "other"}, {"split": "dev"}, {"user_id": "v"}, {"meta": {}}], ids=str)
def test_a_changed_query_is_updated_and_counted(store, changed):
    new = msgspec.structs.replace(_QUERIES[0], **changed)

    assert store.add_queries([new, _QUERIES[1]]) == Counts(updated=1, unchanged=1)
    assert list(store.queries()) == [new, _QUERIES[1]]
    assert list(store.queries(split=new.split, user_id=new.user_id)) == [new]


def test_queries_are_found_by_split_and_by_user(store):
    assert list(store.queries()) == _QUERIES
    assert list(store.queries(split="train")) == list(store.queries(user_id="u")) == _QUERIES[:1]
    assert list(store.queries(split="train", user_id="w")) == list(store.queries(split="nope")) == []
    assert (store.has_queries("train"), store.has_queries("test")) == (True, False)
    assert (store.has_user("w"), store.has_user("x")) == (True, False)


def test_a_failing_add_leaves_the_store_as_it_was(store):
    def documents():
        yield Document(user_id="u", doc_id="new", text="t")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store.add_documents(documents())
    assert store.count() == {"users": 3, "documents": 3, "queries": 2}
    assert store.documents("u") == _DOCUMENTS[:2]


_IDS = st.text(min_size=1).filter(lambda text: "\x00" not in text) | st.sampled_from(
    ["../x", "a/b", "CON", "x'; DROP TABLE doc;--", "%", "_", "u", "U", "é", "e\u0301", "😀", "1", "01", "1e0", " u"]
)


@settings(max_examples=15)
@given(st.lists(st.tuples(_IDS, _IDS), min_size=1, max_size=8))
def test_ids_are_opaque(tmp_path_factory, ids):
    folder = tmp_path_factory.mktemp("store")
    expected = {pair: Document(user_id=pair[0], doc_id=pair[1], text=repr(pair)) for pair in ids}
    with Store(folder / "index.sqlite", create=True) as store:
        added = store.add_documents(expected[pair] for pair in ids)
        store.add_queries(Query(query_id=f"{doc}", user_id=user, text="t") for user, doc in expected)

        assert added == Counts(added=len(expected), unchanged=len(ids) - len(expected))
        for user_id in {user for user, _ in ids}:
            own = [document for document in expected.values() if document.user_id == user_id]
            assert store.documents(user_id) == own
            assert store.history(user_id).doc_ids == [document.doc_id for document in own]
            assert store.documents(user_id, [own[-1].doc_id]) == own[-1:]
    assert {entry.name.partition("-")[0] for entry in folder.iterdir()} == {"index.sqlite"}


def test_only_its_owner_may_read_the_file_whatever_the_umask(path):
    before = os.umask(0)
    try:
        with Store(path, create=True) as store:
            store.add_documents(_DOCUMENTS)
            modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    finally:
        os.umask(before)

    assert set(modes.values()) == {0o600} and "index.sqlite" in modes


def test_a_store_opened_for_reading_cannot_be_written_and_is_not_created(path, store):
    with Store(path) as reader, pytest.raises(StorageError, match="readonly"):
        reader.add_documents([Document(user_id="u", doc_id="c", text="t")])
    with pytest.raises(DataError, match=r"no index in .*; run `prlm index DATA` first"):
        Store(path.with_name("other.sqlite"))
    assert not path.with_name("other.sqlite").exists()


def test_a_file_that_was_made_and_never_filled_is_no_index_yet(path):
    path.touch()
    with pytest.raises(DataError, match="no index in"):
        Store(path)
    with Store(path, create=True) as store:
        assert store.add_documents(_DOCUMENTS) == Counts(added=3)


def test_readers_leave_nothing_beside_the_file(path, store):
    store.__exit__()
    with Store(path) as one, Store(path) as two:
        assert one.users() == two.users()

    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_store_is_read_where_nothing_can_be_written(path, store, monkeypatch):
    store.__exit__()
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)

    with Store(path) as reader:
        assert [document.doc_id for document in reader.documents("u")] == [
            document.doc_id for document in _DOCUMENTS if document.user_id == "u"
        ]
        assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_path_with_odd_characters_opens(tmp_path):
    path = tmp_path / "a b?c#d%41é.sqlite"
    with Store(path, create=True) as store:
        store.add_documents(_DOCUMENTS)
    with Store(path) as reader:
        assert reader.count()["documents"] == 3


def _change(path, *statements):
    db = sqlite3.connect(path)
    for statement in statements:
        db.execute(statement)
    db.commit()
    db.close()


@pytest.mark.parametrize(
    ("statements", "message"),
    [
        (["PRAGMA application_id=1"], "is not a prlm index; name another workspace with -w"),
        (["PRAGMA user_version=3"], "has format 3, this program reads 2; upgrade prlm"),
    ],
)
@pytest.mark.parametrize("create", [False, True])
def test_a_file_of_another_program_or_version_is_refused(path, statements, message, create):
    Store(path, create=True).__exit__()
    _change(path, *statements)

    with pytest.raises(StorageError) as caught:
        Store(path, create=create)
    assert str(caught.value).startswith(f"{path} {message}")


@pytest.mark.parametrize("create", [False, True])
@pytest.mark.parametrize("content", [b"not a database" * 99, b"SQLite format 3\x00" + b"\xff" * 4096])
def test_bytes_that_are_no_database_are_a_storage_error(path, content, create):
    path.write_bytes(content)

    with pytest.raises(StorageError, match=str(path)):
        Store(path, create=create)
    assert path.read_bytes() == content


def _read_all(path):
    with Store(path) as store:
        store.count()
        for user_id in store.users():
            store.has_user(user_id)
            store.documents(user_id)
            store.history(user_id)
        list(store.queries())
        store.has_user("u")
        return store.quick_check()


@settings(max_examples=15)
@given(data=st.data())
def test_damaged_pages_are_a_storage_error_or_still_readable(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("store") / "index.sqlite"
    with Store(path, create=True) as store:
        store.add_documents(Document(user_id=f"u{n % 3}", doc_id=str(n), text="text " * 200) for n in range(60))
    content = bytearray(path.read_bytes())
    page = data.draw(st.integers(1, len(content) // 8192 - 1))
    content[page * 8192 : (page + 1) * 8192] = b"\xff" * 8192
    path.write_bytes(content[: data.draw(st.sampled_from([len(content), page * 8192 + 100]))])

    try:
        assert _read_all(path) != "ok"
    except StorageError as error:
        assert str(error).startswith(str(path))


def test_a_damaged_table_of_users_is_a_storage_error_for_every_question(path):
    with Store(path, create=True) as store:
        store.add_documents(Document(user_id=f"user {n}" * 20, doc_id="d", text="t") for n in range(500))
    content = path.read_bytes()
    path.write_bytes(content[:8192] + b"\xff" * (len(content) - 8192))

    with Store.__new__(Store) as store:
        store.path, store._db = path, sqlite3.connect(path)
        for ask in (store.users, store.count, lambda: store.has_user("u"), lambda: list(store.queries(split="test"))):
            with pytest.raises(StorageError):
                ask()


def test_a_locked_store_says_who_may_hold_it(path, store, monkeypatch):
    other = sqlite3.connect(path)
    other.execute("BEGIN IMMEDIATE")
    store._db.execute("PRAGMA busy_timeout=1")

    with pytest.raises(StorageError, match="locked; another prlm is writing; try again when it is done"):
        store.add_documents([Document(user_id="u", doc_id="c", text="t")])
    other.close()


def test_rows_are_read_in_the_order_asked_for_and_however_many(path):
    with Store(path, create=True) as store:
        store.add_documents(Document(user_id="u", doc_id=str(n), text=f"text {n}") for n in range(2500))
        entries = store.history("u").entries
        rids = [*(entry.rid for entry in entries[::-1]), entries[7].rid]

        assert [document.doc_id for document in store.documents_at("u", rids)] == [*map(str, range(2499, -1, -1)), "7"]
        assert store.documents_at("u", []) == []


def test_a_row_of_somebody_else_or_of_nobody_is_never_given(store):
    theirs = store.history("v").entries[0].rid
    own = [entry.rid for entry in store.history("u").entries]
    assert len(store.documents_at("u", own)) == 2

    for user_id, rids in [("u", [theirs]), ("u", [*own, theirs]), ("nobody", own), ("u", [max(own) + 1])]:
        with pytest.raises(StorageError, match="damaged rows"):
            store.documents_at(user_id, rids)


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE doc SET meta = '{' WHERE doc_id = 'b'",
        "UPDATE doc SET meta = NULL WHERE doc_id = 'b'",
        "UPDATE doc SET text = 'other' WHERE doc_id = 'b'",
        "UPDATE doc SET doc_id = 'c' WHERE doc_id = 'b'",
        "UPDATE doc SET rid = rid + 7 WHERE doc_id = 'b'",
        "DELETE FROM doc WHERE doc_id = 'b'",
    ],
)
def test_a_damaged_or_lost_document_is_noticed_by_every_read_of_its_user(path, store, damage):
    rids = [entry.rid for entry in store.history("u").entries]
    _change(path, damage)

    for ask in (lambda: store.documents("u"), lambda: store.documents_at("u", rids), lambda: store.meta("u")):
        with pytest.raises(StorageError, match="damaged rows"):
            ask()
    assert store.documents("v") == _DOCUMENTS[2:]


def test_an_index_of_ids_that_tells_another_story_than_the_rows_is_damage(path, store):
    store.settle()
    store.__exit__()
    content = path.read_bytes()
    key = b"b" + (1 << 24 | 1).to_bytes(4)  # doc_id and row, as only the index has them side by side
    assert content.count(key) == 1
    path.write_bytes(content.replace(key, b"z" + key[1:]))

    with Store(path, create=True) as damaged:
        assert len(damaged.documents("u")) == 2
        for ask in (
            lambda: damaged.history("u").doc_ids,
            lambda: damaged.documents("u", ["b"]),
            lambda: damaged.documents("u", ["z"]),
            lambda: damaged.erase("u", "z"),
            lambda: damaged.add_documents([Document(user_id="u", doc_id="z", text="new")]),
        ):
            with pytest.raises(StorageError, match="damaged rows"):
                ask()


@pytest.mark.parametrize("damage", ["record = '{'", "record = replace(record, 'g', 'h')", "split = 'dev'", "uid = 2"])
def test_a_damaged_query_is_never_given(path, store, damage):
    _change(path, f"UPDATE query SET {damage} WHERE query_id = 'q1'")

    with pytest.raises(StorageError, match="damaged rows"):
        list(store.queries())
    with pytest.raises(StorageError, match="damaged rows"):
        store.erase("u" if damage != "uid = 2" else "v", "b" if damage != "uid = 2" else "a")
    for asked in ({"split": "train"}, {"split": "dev"}, {"user_id": "u"}, {"user_id": "v"}):
        try:
            assert list(store.queries(**asked)) == []
        except StorageError as error:
            assert "damaged rows" in str(error)


@pytest.mark.parametrize("damage", ["vector = x'00'", "vector = 'text'", "crc = 7"])
def test_a_damaged_vector_is_as_good_as_none(path, store, damage):
    one, two = (entry.rid for entry in store.history("u").entries)
    store.keep_vectors("u", "model", {one: b"vector 1", two: b"vector 2"})
    assert store.vectors("u", "model") == {one: b"vector 1", two: b"vector 2"}
    assert store.vectors("u", "other") == store.vectors("v", "model") == store.vectors("nobody", "model") == {}
    _change(path, f"UPDATE vec SET {damage} WHERE rid = {one}")

    assert store.vectors("u", "model") == {two: b"vector 2"}


@pytest.mark.parametrize("damage", ["DELETE FROM meta WHERE key = 'language'", "UPDATE meta SET value = 'klingon'"])
def test_a_store_that_names_no_language_is_damaged(path, store, damage):
    _change(path, damage)

    for ask in (lambda: store.language, lambda: store.tokenizer, lambda: store.rebuild()):
        with pytest.raises(StorageError, match="damaged rows"):
            ask()


def test_a_user_whose_key_is_damaged_is_not_taken_for_an_unknown_one(path):
    with Store(path, create=True) as store:
        store.add_documents(Document(user_id=user_id, doc_id="d", text="t") for user_id in ("ann", "bob", "cem"))
        store.settle()
    content = path.read_bytes()
    for damaged_key in (b"aob\x02", b"zob\x02"):
        path.write_bytes(content.replace(b"bob\x02", damaged_key))
        with Store(path, create=True) as store:
            for ask in (
                store.history,
                store.documents,
                store.has_user,
                lambda user: store.queries(user_id=user).__next__(),
            ):
                with pytest.raises(StorageError, match="damaged rows"):
                    ask("bob")
            with pytest.raises(StorageError, match="damaged rows"):
                store.add_documents([Document(user_id="bob", doc_id="e", text="t")])


def test_a_vector_of_a_text_that_changed_meanwhile_is_not_kept(path, store):
    one, two = (entry.rid for entry in store.history("u").entries)
    with Store(path) as reader, reader.snapshot():
        assert len(reader.documents("u")) == 2  # encoded from here on
        store.add_documents([msgspec.structs.replace(_DOCUMENTS[0], text="rewritten")])
        store.add_documents([Document(user_id="x", doc_id="d", text="t")])
        reader.keep_vectors("u", "model", {one: b"vector 1", two: b"vector 2"})

    assert _DOCUMENTS[0].doc_id == store.history("u").doc_ids[1]
    assert store.vectors("u", "model") == {one: b"vector 1"}


def test_a_vector_of_an_erased_document_is_not_kept(path, store):
    rids = [entry.rid for entry in store.history("u").entries]
    with Store(path) as reader, reader.snapshot():
        reader.documents("u")
        store.erase("u")
        reader.keep_vectors("u", "model", dict.fromkeys(rids, b"vector"))

    assert store._db.execute("SELECT count(*) FROM vec").fetchone() == (0,)


def test_vectors_are_not_kept_while_somebody_else_writes_for_long(path, store, monkeypatch):
    monkeypatch.setattr(module, "_LOCK_TIMEOUT", 0.01)
    rids = [entry.rid for entry in store.history("u").entries]
    other = sqlite3.connect(path)
    other.execute("BEGIN IMMEDIATE")
    with Store(path) as reader:
        reader.keep_vectors("u", "model", dict.fromkeys(rids, b"vector"))
        other.close()
        assert reader.vectors("u", "model") == {}
        reader.keep_vectors("u", "model", dict.fromkeys(rids, b"vector"))
        assert len(reader.vectors("u", "model")) == 2


def test_a_changed_document_loses_its_vector_and_no_other_does(store):
    rids = [entry.rid for entry in store.history("u").entries]
    store.keep_vectors("u", "model", dict.fromkeys(rids, b"vector"))
    store.add_documents([msgspec.structs.replace(_DOCUMENTS[0], text="rewritten"), *_DOCUMENTS[1:]])

    assert store.vectors("u", "model") == {rids[0]: b"vector"}
