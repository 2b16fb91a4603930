from __future__ import annotations

import io
import json
import os
import sys
import tempfile
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prlm_cli.core import jsonl
from prlm_cli.core.errors import DataError
from prlm_cli.core.store import Counts
from prlm_cli.core.workspace import Workspace
from prlm_cli.pipeline import index as module
from prlm_cli.pipeline import ingest
from prlm_cli.pipeline.index import index
from tests.conftest import tiny_corpus

_DOCUMENT = {"user_id": "u", "doc_id": "d", "text": "t"}
_QUERY = {"query_id": "q", "user_id": "u", "text": "t"}


@pytest.fixture
def place(tmp_path):
    return Workspace(tmp_path / "ws")


def _content(place):
    with place.open_store() as store:
        return [*(document for user in store.users() for document in store.documents(user)), *store.queries()]


def test_documents_and_queries_may_be_mixed_and_are_counted_apart(place, write_jsonl):
    result = index(place, [write_jsonl(tiny_corpus())])

    assert (result.documents, result.queries) == (Counts(added=24), Counts(added=12))
    assert result.total == {"users": 3, "documents": 24, "queries": 12}


def test_the_same_input_twice_changes_nothing(place, write_jsonl):
    path = write_jsonl([*tiny_corpus(), {"user_id": "u", "text": "without an id"}])
    first = index(place, [path, path])
    before = _content(place)

    assert (first.documents, first.queries) == (Counts(added=25, unchanged=25), Counts(added=12, unchanged=12))
    assert index(place, [path]).documents == Counts(unchanged=25)
    assert index(place, [path]).queries == Counts(unchanged=12)
    assert _content(place) == before


def test_changed_records_are_updated_and_counted(place, write_jsonl):
    index(place, [write_jsonl([_DOCUMENT, _QUERY])])
    result = index(place, [write_jsonl([_DOCUMENT | {"text": "new"}, _QUERY | {"target": "g"}])])

    assert (result.documents, result.queries) == (Counts(updated=1), Counts(updated=1))
    assert [record.text for record in _content(place)] == ["new", "t"]


def test_unknown_fields_are_kept_and_one_id_may_serve_two_users(place, write_jsonl):
    index(place, [write_jsonl([_DOCUMENT | {"lang": "de"}, _DOCUMENT | {"user_id": "v"}])])

    assert [(record.user_id, record.doc_id, record.meta) for record in _content(place)] == [
        ("u", "d", {"lang": "de"}),
        ("v", "d", {}),
    ]


def test_an_empty_date_is_no_date(place, write_jsonl):
    index(place, [write_jsonl([_DOCUMENT | {"date": ""}])])

    assert _content(place)[0].date is None


@pytest.mark.parametrize(
    ("own", "given_split", "split"), [({}, "dev", "dev"), ({"split": "test"}, "dev", "test"), ({}, None, None)]
)
def test_the_split_is_for_queries_that_name_none(place, write_jsonl, own, given_split, split):
    index(place, [write_jsonl([_QUERY | own])], split=given_split)

    assert _content(place)[0].split == split


def test_a_query_whose_split_is_null_names_none(place, write_jsonl):
    index(place, [write_jsonl([_QUERY | {"split": None}])], split="dev")

    assert _content(place)[0].split == "dev"


_GOOD = json.dumps(_DOCUMENT).encode()
_BAD = [
    (b'{"user_id": "u"}', "no field 'text'"),
    (b'{"query_id": "q", "text": "t"}', "no field 'user_id'"),
    (b'{"user_id": "u", "text": "t", "date": "soon"}', "field 'date' is not a date"),
    (b'{"user_id": "u", "text": "t", "date": 1e18}', "field 'date' is not a date"),
    (b'{"user_id": "u", "text": ', "not valid JSON"),
    (b"\xff", "not UTF-8"),
]


@pytest.mark.parametrize(("line", "message"), _BAD, ids=[message for _, message in _BAD])
@pytest.mark.parametrize("after", [0, 1, 7])
def test_a_bad_line_anywhere_leaves_the_store_unchanged(
    place, write_jsonl, tmp_path, monkeypatch, line, message, after
):
    monkeypatch.setattr(ingest, "BLOCK_RECORDS", 2)
    index(place, [write_jsonl([_DOCUMENT])])
    before = _content(place)
    first = write_jsonl([_DOCUMENT | {"doc_id": "e"}], "first.jsonl")
    bad = tmp_path / "bad.jsonl"
    bad.write_bytes((_GOOD + b"\n") * after + line + b"\n" + _GOOD.replace(b'"d"', b'"f"') + b"\n")

    with pytest.raises(DataError) as caught:
        index(place, [first, bad])
    assert str(caught.value).startswith(f"{bad}:{after + 1}: {message}")
    assert str(caught.value).endswith("; nothing was stored")
    assert _content(place) == before


def test_a_first_index_that_fails_makes_no_workspace(place, write_jsonl):
    with pytest.raises(DataError):
        index(place, [write_jsonl([{"user_id": "u"}])])

    assert not place.folder.exists()


@pytest.mark.parametrize(
    "lines",
    [
        [b'{"user_id": "u"}', b'{"text": "t"}'],
        [b"{", b"["],
        [b'{"text": "t"}', b"{", b"\xff", b'{"user_id": "u"}', b"3"],
    ],
    ids=["fields", "JSON", "mixed"],
)
def test_all_bad_lines_are_counted_and_the_first_three_named(place, tmp_path, lines):
    path = tmp_path / "bad.jsonl"
    path.write_bytes(b"\n".join([_GOOD, *lines, _GOOD]))

    with pytest.raises(DataError) as caught:
        index(place, [path])
    assert f"({len(lines)} bad lines in all" in str(caught.value)
    assert [f"{path}:{n}:" in str(caught.value) for n in range(2, 6)] == [
        n - 2 < min(3, len(lines)) for n in range(2, 6)
    ]


@pytest.mark.parametrize("content", ["", "\n \n"])
def test_a_file_without_records_is_an_error(place, tmp_path, write_jsonl, content):
    empty = tmp_path / "empty.jsonl"
    empty.write_text(content)

    with pytest.raises(DataError, match=r"empty\.jsonl: no records; one JSON object a line"):
        index(place, [write_jsonl([_DOCUMENT]), empty])
    assert not place.index.exists()


def _on_stdin(monkeypatch, content):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))


def test_standard_input_is_read_once_and_leaves_no_copy(place, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    _on_stdin(monkeypatch, _GOOD + b"\n")

    assert index(place, [jsonl.STDIN]).documents == Counts(added=1)
    assert [entry.name for entry in tmp_path.iterdir()] == ["ws"]


@pytest.mark.parametrize(
    ("content", "message"), [(b'{"user_id": "u"}', "<stdin>:1: no field 'text'"), (b"", "<stdin>: no records")]
)
def test_errors_of_standard_input_name_it(place, monkeypatch, content, message):
    _on_stdin(monkeypatch, content)

    with pytest.raises(DataError) as caught:
        index(place, [jsonl.STDIN])
    assert str(caught.value).startswith(message)


def test_a_pipe_that_can_be_read_only_once_is_read(place):
    read_end, write_end = os.pipe()  # as a shell gives for `prlm index <(zcat data.gz)`
    os.write(write_end, _GOOD + b"\n")
    os.close(write_end)
    try:
        assert index(place, [module.Path(f"/dev/fd/{read_end}")]).total["documents"] == 1
    finally:
        os.close(read_end)


@settings(max_examples=15)
@given(st.permutations(tiny_corpus()[:10]))
def test_where_dates_are_given_the_order_of_the_input_does_not_matter(tmp_path_factory, corpus):
    from prlm_cli.core.records import Query
    from prlm_cli.core.settings import RetrievalSettings
    from prlm_cli.pipeline.retrieve import retrieve

    folder = tmp_path_factory.mktemp("index")
    (folder / "data.jsonl").write_text("".join(json.dumps(record) + "\n" for record in corpus))
    index(Workspace(folder / "ws"), [folder / "data.jsonl"])
    query = Query(query_id="q", user_id="ada", text="parsing trees again", date="2024")
    with Workspace(folder / "ws").open_store() as store:
        found = [
            [shown.doc_id for shown in result.profile]
            for name in ("bm25", "recency", "random")
            for result in retrieve(store, [query], RetrievalSettings(retriever=name, k=8))
        ]

    assert found[1] == ["d8", "d7", "d6", "d5", "d4", "d3", "d2", "d1"]
    assert found == _REFERENCE.setdefault("found", found)


_REFERENCE: dict[str, list[list[str]]] = {}
