from __future__ import annotations

import sqlite3

import pytest

from prlm_cli.core import schema
from prlm_cli.core.errors import StorageError
from prlm_cli.core.records import Document
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

    with Store(path) as store, pytest.raises(StorageError, match="damaged rows; index the data into a new workspace"):
        store.history("u")


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
