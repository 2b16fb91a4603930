from __future__ import annotations

import statistics
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prlm_cli.core.errors import DataError
from prlm_cli.core.workspace import Workspace
from prlm_cli.pipeline.index import index
from prlm_cli.pipeline.show import Size, Spread, _spread, show, show_user
from tests.conftest import tiny_corpus


def test_an_index_is_shown_in_counts(workspace, write_jsonl):
    with workspace.open_store() as store:
        vectors = {entry.rid: b"v" for entry in store.history("ada").entries[:3]}
        store.keep_vectors("ada", "minilm;384", vectors)
        store.keep_vectors("ada", "static;256", dict(list(vectors.items())[:1]))
    index(workspace, [write_jsonl([{"doc_id": "k", "text": "Known to all."}])], shared=True)

    contents = show(workspace, head=2)

    assert (contents.users, contents.documents, contents.language) == (3, 24, "english")
    assert contents.queries == {"dev": 3, "test": 3, "train": 6}
    assert contents.history == Spread(8, 8.0, 8.0, 8)
    assert contents.encoders == {"minilm;384": 3, "static;256": 1}
    assert contents.shared_documents == 1
    assert contents.size_bytes == sum(path.stat().st_size for path in workspace.folder.glob("*.sqlite"))
    assert contents.first_users == [Size("ada", 8, 4), Size("ben", 8, 4)]


def test_an_empty_index_is_shown_too(tmp_path):
    workspace = Workspace(tmp_path)
    workspace.open_store(create=True).__exit__()

    contents = show(workspace, head=5)

    assert (contents.users, contents.documents, contents.queries, contents.first_users) == (0, 0, {}, [])
    assert (contents.history, contents.encoders, contents.shared_documents) == (Spread(0, 0.0, 0.0, 0), {}, None)


def test_users_with_queries_alone_and_queries_of_no_split_are_counted(tmp_path, write_jsonl):
    workspace = Workspace(tmp_path / "ws")
    index(workspace, [write_jsonl([{"query_id": "q", "user_id": "u", "text": "t"}])])

    contents = show(workspace, head=1)

    assert (contents.users, contents.documents, contents.queries) == (1, 0, {"none": 1})
    assert (contents.history, contents.first_users) == (Spread(0, 0.0, 0.0, 0), [Size("u", 0, 1)])


def test_showing_changes_nothing(workspace):
    before = {path: path.read_bytes() for path in workspace.folder.iterdir()}
    show(workspace, head=3)
    show_user(workspace, "ada")

    assert {path: path.read_bytes() for path in workspace.folder.iterdir()} == before


def test_a_history_is_the_users_own_newest_first_and_undated_last(workspace, write_jsonl):
    more = [
        {"user_id": "ada", "doc_id": "undated", "text": "t"},
        {"user_id": "ada", "doc_id": "coarse", "text": "t", "date": "2023-05"},
        {"user_id": "ada", "doc_id": "same day", "text": "t", "date": "2023-08-15"},
    ]
    index(workspace, [write_jsonl(more, "more.jsonl")])

    history = show_user(workspace, "ada")

    shown = [document.doc_id for document in history.documents]
    assert shown == ["same day", "d8", "d7", "d6", "coarse", "d5", "d4", "d3", "d2", "d1", "undated"]
    assert {record.user_id for record in (*history.documents, *history.queries)} == {"ada"}
    expected = [record["query_id"] for record in tiny_corpus() if record["user_id"] == "ada" and "query_id" in record]
    assert [query.query_id for query in history.queries] == expected


@pytest.mark.parametrize("head", [0, 1, 3, 99])
def test_of_a_history_so_many_of_the_newest_are_shown(workspace, head):
    history = show_user(workspace, "ada", head=head)

    assert [document.doc_id for document in history.documents] == [f"d{n}" for n in range(8, 0, -1)][:head]
    assert len(history.queries) == 4


def test_an_unknown_user_is_an_error_that_names_nobody_else(workspace):
    with pytest.raises(DataError) as caught:
        show_user(workspace, "adb")
    assert str(caught.value) == "no user 'adb' in the index"


@given(st.lists(st.integers(0, 9), min_size=1))
def test_the_spread_is_that_of_all_sizes(sizes):
    expected = Spread(min(sizes), statistics.median(sizes), statistics.fmean(sizes), max(sizes))

    assert _spread(Counter(sizes)) == pytest.approx(expected)
