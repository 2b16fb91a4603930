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
