from __future__ import annotations

import time

import pytest

from prlm_cli.core.errors import StorageError
from prlm_cli.core.records import Document
from prlm_cli.core.store import Store


@pytest.fixture
def path(tmp_path):
    return tmp_path / "index.sqlite"


def _texts(store, user_id="u"):
    return [document.text for document in store.documents(user_id)]


def _add(path, doc_id, user_id="u"):
    with Store(path, create=True) as writer:
        writer.add_documents([Document(user_id=user_id, doc_id=doc_id, text=doc_id)])


def test_a_snapshot_sees_the_state_of_its_beginning_even_of_what_it_had_not_read_yet(path):
    _add(path, "one")
    with Store(path) as reader:
        with reader.snapshot():
            _add(path, "two")
            assert (_texts(reader), len(reader.history("u")), reader.count()["documents"]) == (["one"], 1, 1)
        assert (_texts(reader), len(reader.history("u")), reader.count()["documents"]) == (["one", "two"], 2, 2)


def test_a_snapshot_within_another_is_a_part_of_that(path):
    _add(path, "one")
    with Store(path) as reader, reader.snapshot():
        with reader.snapshot():
            _add(path, "two")
        assert _texts(reader) == ["one"]


def test_snapshots_that_overlap_keep_the_state_until_the_last_one_ends(path):
    _add(path, "one")
    with Store(path) as reader:
        first, second = reader.snapshot(), reader.snapshot()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        _add(path, "two")
        assert _texts(reader) == ["one"]
        second.__exit__(None, None, None)
        assert _texts(reader) == ["one", "two"]


def test_a_snapshot_outlives_neither_an_error_nor_its_store(path):
    _add(path, "one")
    with Store(path) as reader:
        with pytest.raises(ZeroDivisionError), reader.snapshot():
            raise ZeroDivisionError
        _add(path, "two")
        assert _texts(reader) == ["one", "two"]
        with reader.snapshot():
            reader.__exit__()
        with pytest.raises(StorageError), reader.snapshot():
            pass


@pytest.mark.parametrize("ask", [Store.history, Store.documents])
def test_a_writer_who_commits_amid_a_read_is_not_taken_for_damage(path, ask):
    _add(path, "one")
    with Store(path) as reader:
        left = iter(["two"])

        def commit_amid(statement):
            if "FROM term" in statement or "FROM doc" in statement:
                for doc_id in left:
                    _add(path, doc_id)

        reader._db.set_trace_callback(commit_amid)
        found = ask(reader, "u")
        reader._db.set_trace_callback(None)

        assert next(left, None) is None
        assert len(found) == 1
        assert _texts(reader) == ["one", "two"]


def test_settling_waits_for_no_reader(path):
    _add(path, "old")
    with Store(path, create=True) as store:
        _settle_beside_a_reader(path, store)
        store.settle()
        assert not path.with_name("index.sqlite-wal").stat().st_size


def _settle_beside_a_reader(path, store):
    with Store(path) as reader, reader.snapshot():
        store.add_documents([Document(user_id="u", doc_id="new", text="t")])
        began = time.monotonic()
        store.settle()
        assert time.monotonic() - began < 5  # and not the ten seconds of a lock
        assert path.with_name("index.sqlite-wal").stat().st_size
