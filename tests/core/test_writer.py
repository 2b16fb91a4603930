"""What an upsert writes: whatever the way, the store is what one built from scratch of the final records is."""

from __future__ import annotations

import sqlite3
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prlm_cli.core.errors import StorageError
from prlm_cli.core.records import Document, Query
from prlm_cli.core.schema import User
from prlm_cli.core.settings import RetrievalSettings
from prlm_cli.core.store import Erased, Store
from prlm_cli.core.writer import Counts
from prlm_cli.pipeline.retrieve import retrieve


def test_the_last_of_the_row_numbers_of_a_user_is_used_and_none_after_it(tmp_path):
    full = User(1, "u", 2**24 - 2, 0)
    with Store(tmp_path / "index.sqlite", create=True) as store:
        store.add_documents([Document(user_id="v", doc_id="d", text="of v")])
        store._db.execute("INSERT INTO user VALUES (2, ?, ?, ?, ?)", ("u", full.n, 0, full.crc))
        assert store.add_documents([Document(user_id="u", doc_id="d1", text="t")]) == Counts(added=1)
        for _ in range(2):
            with pytest.raises(StorageError, match="a user has no room for more documents; give"):
                store.add_documents([Document(user_id="u", doc_id="d2", text="t")])
        assert [document.doc_id for document in store.documents("u")] == ["d1"]
        assert store.add_documents([Document(user_id="u", doc_id="d1", text="changed")]) == Counts(updated=1)
