from __future__ import annotations

import gzip
import json

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from prlm_cli.core import jsonl
from prlm_cli.core.errors import DataError, SettingsError
from prlm_cli.core.records import Document
from prlm_cli.core.settings import RetrievalSettings
from prlm_cli.core.store import Store
from prlm_cli.core.workspace import Workspace
from prlm_cli.core.writer import Counts
from prlm_cli.pipeline.index import index
from prlm_cli.pipeline.retrieve import retrieve

_DOCUMENT = {"user_id": "u", "doc_id": "d", "text": "t"}
_GOOD = json.dumps(_DOCUMENT).encode()


@pytest.fixture
def place(tmp_path):
    return Workspace(tmp_path / "ws")


def test_skipping_stores_what_is_sound_and_writes_the_rest_aside_with_the_reason(place, tmp_path):
    bad = tmp_path / "bad.jsonl"
    lines = [_GOOD, b'{"user_id": "u"}', b"\xff", _GOOD.replace(b'"d"', b'"e"'), b'{"user_id": "u", "text": ""}']
    bad.write_bytes(b"\n".join(lines))

    result = index(place, [bad], skip_faults=True)

    assert (result.documents, result.rejected, result.total["documents"]) == (Counts(added=2), 3, 2)
    errors = [json.loads(line) for line in place.errors.read_text().splitlines()]
    assert [error["reason"].removeprefix(f"{bad}:").partition(" (")[0] for error in errors] == [
        "2: no field 'text'",
        "3: not UTF-8",
        "5: field 'text' is empty",
    ]
    assert [error["rejected"] for error in errors] == ['{"user_id": "u"}', "\\xff", '{"user_id": "u", "text": ""}']
    assert place.errors.stat().st_mode & 0o777 == 0o600
    assert index(place, [bad], skip_faults=True).documents == Counts(unchanged=2)


def test_skipping_everything_is_an_error_and_skipping_nothing_writes_no_file(place, write_jsonl):
    with pytest.raises(DataError, match=r"no line could be used: .*:1: no field 'text'"):
        index(place, [write_jsonl([{"user_id": "u"}])], skip_faults=True)
    place.errors.unlink()
    index(place, [write_jsonl([_DOCUMENT])], skip_faults=True)
    assert not place.errors.exists()


@pytest.mark.parametrize("packed", [True, False], ids=["fast way", "long way"])
@given(
    fields=st.fixed_dictionaries(
        {
            "user_id": st.sampled_from(["u", "v"]),
            "text": st.sampled_from(["t", 'say "x": y', "é", "a\nb", "\U0001f600"]),
        },
        optional={
            "doc_id": st.sampled_from(["d", ""]),
            "title": st.none() | st.sampled_from(["T", ""]),
            "date": st.none() | st.sampled_from(["2024", "", 5, 1.5]),
            "meta": st.sampled_from([{}, {"a": 1}]),
            "extra": st.sampled_from([1, None, [{"b": 2}]]),
        },
    ),
    spaced=st.booleans(),
)
def test_a_document_is_the_same_however_its_line_is_read(tmp_path_factory, packed, fields, spaced):
    path = tmp_path_factory.mktemp("lines") / "a.jsonl"
    path.write_text(json.dumps(fields, separators=None if spaced else (",", ":"), ensure_ascii=packed))
    (line,) = jsonl.read_lines(path)
    expected = jsonl.document_or_query(line)

    (found,) = jsonl.read_records(path)
    assert {name: getattr(found, name) for name in Document.__struct_fields__} == {
        name: getattr(expected, name) for name in Document.__struct_fields__
    }


@pytest.mark.parametrize(
    "line",
    [
        b'{"user_id": "u", "text": "t", "text": "s"}',
        b'{"user_id": "u", "text": "a\\u0000b"}',
        b'{"user_id": "", "text": "t"}',
        b'{"user_id": "u", "text": "t", "date": "soon"}',
        b'{"user_id": "u", "text": "t", "date": 1e400}',
        b'{"user_id": "u", "text": "\xff"}',
        b'{"user_id": "u", "text": "\\ud800"}',
        b'{"user_id": "u", "text": 3}',
    ],
)
def test_the_fast_way_lets_nothing_through_that_the_long_way_refuses(tmp_path, line):
    path = tmp_path / "a.jsonl"
    path.write_bytes(line)

    with pytest.raises(DataError) as slow:
        jsonl.document_or_query(next(iter(jsonl.read_lines(path))))
    with pytest.raises(DataError) as fast:
        list(jsonl.read_records(path))
    assert str(fast.value) == str(slow.value)


def test_all_formats_give_the_same_index(place, tmp_path):
    rows = [
        {"user_id": "u", "doc_id": f"d{n}", "text": f"text {n}", "title": "T", "date": "2024-05-17"} for n in range(5)
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "a.jsonl").write_text(lines)
    with gzip.open(tmp_path / "a.jsonl.gz", "wt") as stream:
        stream.write(lines)
    (tmp_path / "a.jsonl.zst").write_bytes(zstandard.compress(lines.encode()))
    header = ",".join(rows[0])
    (tmp_path / "a.csv").write_text("\n".join([header, *(",".join(row.values()) for row in rows)]))
    (tmp_path / "b.tsv").write_text(
        "\n".join(["who\tbody\tid", *(f"u\t{row['text']}\t{row['doc_id']}" for row in rows)])
    )

    assert index(place, [tmp_path / "a.jsonl"]).documents == Counts(added=5)
    for name in ("a.jsonl.gz", "a.jsonl.zst", "a.csv"):
        assert index(place, [tmp_path / name]).documents == Counts(unchanged=5), name
    assert index(place, [tmp_path / "a.*"]).documents == Counts(unchanged=20)
    columns = {"user_id": "who", "text": "body", "doc_id": "id"}
    assert index(place, [tmp_path / "b.tsv"], columns=columns).documents == Counts(updated=5)


def test_lamp_questions_see_the_history_they_came_with_and_the_order_of_the_files_changes_nothing(place, tmp_path):
    profile = [
        {"id": f"p{n}", "text": f"text {n}", "title": f"title {n}", "date": f"2020-01-0{n + 1}"} for n in range(3)
    ]
    for split, items in (("train", profile[:2]), ("dev", profile)):
        question = {"id": f"{split}1", "input": "Write a headline: text", "user_id": "7", "profile": items}
        (tmp_path / f"{split}_questions.json").write_text(json.dumps([question]))
        golds = [{"id": f"{split}1", "output": "a title"}]
        (tmp_path / f"{split}_outputs.json").write_text(json.dumps({"task": "LaMP_4", "golds": golds}))

    result = index(place, [tmp_path])

    assert result.documents == Counts(added=3) and result.queries == Counts(added=2)
    assert index(place, [tmp_path]).documents == Counts(unchanged=3)
    with place.open_store() as store:
        queries = {query.split: query for query in store.queries()}
        found = {r.split: r for r in retrieve(store, queries.values(), RetrievalSettings(k=9, retriever="recency"))}
    assert [shown.doc_id for shown in found["train"].profile] == ["p1", "p0"]
    assert [shown.doc_id for shown in found["dev"].profile] == ["p2", "p1", "p0"]
    assert found["dev"].target == "a title"


def test_the_language_is_chosen_once_and_a_rebuild_can_change_it(place, write_jsonl):
    data = write_jsonl([_DOCUMENT | {"text": "die Häuser der Städte"}])
    index(place, [data], language="german")
    assert index(place, [data]).documents == Counts(unchanged=1)
    with pytest.raises(SettingsError, match="the index is in german, not english; --rebuild --language english"):
        index(place, [data], language="english")
    with place.open_store() as store:
        before = store.history("u").entries[0].hashes
        assert store.language == "german"

    index(place, rebuild=True, language="english")
    with place.open_store() as store:
        assert (store.language, store.history("u").entries[0].hashes != before) == ("english", True)
        assert store.documents("u")[0].text == "die Häuser der Städte"
    index(place, rebuild=True, language="german")
    with place.open_store() as store:
        assert store.history("u").entries[0].hashes == before
    with pytest.raises(SettingsError, match=r"no language 'germn'; did you mean german\?"):
        index(place, rebuild=True, language="germn")
    with pytest.raises(DataError, match="nothing to index"):
        index(place)


def test_shared_documents_belong_to_nobody(place, write_jsonl):
    result = index(place, [write_jsonl([{"doc_id": "k", "text": "how relays work"}])], shared=True)

    assert result.documents == Counts(added=1)
    assert not place.index.exists() and (place.folder / "shared.bm25s").is_dir()
    for wrong in ({"user_id": "u", "text": "t"}, {"query_id": "q", "text": "t"}):
        with pytest.raises(
            DataError, match=r":1: a shared document belongs to no user; leave out user_id and query_id"
        ):
            index(place, [write_jsonl([wrong], "wrong.jsonl")], shared=True)


def test_the_shared_index_is_gone_before_its_terms_are_made_anew(place, write_jsonl, monkeypatch):
    index(place, [write_jsonl([{"text": "relays"}])], shared=True)

    def killed(store, language=None):
        assert not (place.folder / "shared.bm25s").exists()
        raise KeyboardInterrupt

    monkeypatch.setattr(Store, "rebuild", killed)
    with pytest.raises(KeyboardInterrupt):
        index(place, shared=True, rebuild=True, language="german")
