from __future__ import annotations

import json

import pytest

from prlm_cli.core import jsonl
from prlm_cli.core.configuration import resolve
from prlm_cli.core.errors import DataError
from prlm_cli.core.records import PreferencePair, ProfileDocument, Query
from prlm_cli.core.settings import RetrievalSettings
from prlm_cli.core.workspace import Workspace
from prlm_cli.pipeline.given_pairs import given_pairs, read_pairs
from prlm_cli.pipeline.retrieve import retrieve
from tests.conftest import tiny_corpus
from tests.pipeline.small import Notes

_PAIR = {"user_id": "ada", "text": "We look at trees.", "chosen": "Trees", "rejected": "Speech"}


@pytest.fixture
def read(workspace, tmp_path):
    """Reads lines as pairs; `read.notes` is what was said."""

    def read(*lines, settings=None):
        path = tmp_path / "pairs.jsonl"
        path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
        reporter = Notes()
        read.notes = reporter.notes
        with workspace.open_store() as store:
            return read_pairs(path, store, settings, reporter=reporter)

    return read


def _retrieved(workspace, **fields):
    with workspace.open_store() as store:
        (found,) = retrieve(store, [Query(**fields)], RetrievalSettings())
    return found.profile


def test_what_prlm_wrote_is_read_back_as_it_is(read, tmp_path):
    shown = ProfileDocument(doc_id="1", text="t", title=None, score=0.1 + 0.2, rank=1)
    common = {"query_id": "q", "user_id": "ada", "text": "t", "profile": [shown], "chosen": "a", "rejected": "b"}
    pairs = [
        PreferencePair(kind="own>zero_shot", **common),
        PreferencePair(
            kind="target>neighbour",
            swapped_user_id="ben",
            swapped_profile=[shown],
            swapped_query_id="q2",
            target="a",
            margin=0.5,
            **common,
        ),
        PreferencePair(kind="own>swapped", **{**common, "profile": []}),
    ]
    jsonl.write(tmp_path / "written.jsonl", pairs)

    assert read(*(tmp_path / "written.jsonl").read_text().splitlines()) == pairs
    assert read.notes == []


def test_preference_data_needs_four_fields_and_gets_the_rest(read, workspace):
    (pair,) = read({"prompt": _PAIR["text"], "source": "elsewhere", **{k: _PAIR[k] for k in _PAIR if k != "text"}})

    assert (pair.user_id, pair.text, pair.chosen, pair.rejected) == tuple(_PAIR.values())
    assert (pair.kind, pair.swapped_user_id, pair.target) == ("given", None, None)
    assert pair.profile == _retrieved(workspace, query_id="x", user_id="ada", text=_PAIR["text"])
    assert pair.query_id == read(_PAIR)[0].query_id != read({**_PAIR, "user_id": "ben"})[0].query_id


def test_of_chat_messages_the_last_one_counts(read):
    def said(content):
        return [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": content}]

    (pair,) = read({**_PAIR, "text": said("The text"), "chosen": said("Yes"), "rejected": said("No")})

    assert (pair.text, pair.chosen, pair.rejected) == ("The text", "Yes", "No")


def test_records_are_older_than_the_query_that_the_pair_is_of(read, workspace):
    stored = next(record for record in tiny_corpus() if record.get("query_id") == "ada-q9")
    early = {"query_id": "early", "date": "2023-03-01"}

    of_stored, dated, undated = read(
        {**_PAIR, "text": stored["text"], "query_id": "ada-q9"}, {**_PAIR, **early}, {**_PAIR, "query_id": "late"}
    )

    assert of_stored.profile == _retrieved(workspace, **{k: stored[k] for k in ("query_id", "user_id", "text", "date")})
    assert dated.profile == _retrieved(workspace, user_id="ada", text=_PAIR["text"], **early)
    assert {shown.doc_id for shown in dated.profile} == {"d1", "d2"}
    assert len(undated.profile) == 4


def test_no_record_is_the_text_itself(read):
    document = next(record for record in tiny_corpus() if record.get("doc_id") == "d3")

    (pair,) = read({**_PAIR, "text": document["text"]}, settings=RetrievalSettings(k=99))

    assert len(pair.profile) == 7
    assert document["text"] not in [shown.text for shown in pair.profile]


def test_a_profile_that_is_given_is_kept_and_an_empty_one_is_one(read):
    shown = {"doc_id": "1", "text": "t"}

    first, second = read({**_PAIR, "profile": [shown]}, {**_PAIR, "profile": []})

    assert ([record.doc_id for record in first.profile], second.profile) == (["1"], [])


def test_users_whom_the_index_does_not_know_have_no_records_and_that_is_said(read):
    pairs = read({**_PAIR, "user_id": "zoe"}, _PAIR)

    assert [len(pair.profile) for pair in pairs] == [0, 4]
    assert read.notes == ["1 pairs have no records: their users are not in the index"]


def test_without_an_index_what_has_a_profile_can_be_read_and_the_rest_has_none(tmp_path):
    path, reporter = tmp_path / "pairs.jsonl", Notes()
    lines = [_PAIR, {**_PAIR, "profile": [{"doc_id": "1", "text": "t"}]}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))

    pairs = given_pairs(Workspace(tmp_path / "nowhere"), path, resolve(), reporter)

    assert [len(pair.profile) for pair in pairs] == [0, 1]
    assert reporter.notes == ["1 pairs have no records: their users are not in the index"]
    assert not (tmp_path / "nowhere").exists()


def test_equal_answers_are_left_out_and_counted(read):
    assert len(read({**_PAIR, "rejected": " trees "}, _PAIR)) == 1
    assert read.notes == ["left out 1 pairs whose answers are equal"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], ": no pairs; one a line, with user_id, text, chosen, rejected"),
        ([{**_PAIR, "rejected": "TREES"}], ": none of the 1 pairs has a contrast: its answers are equal; bring others"),
        *(
            ([_PAIR, {k: v for k, v in _PAIR.items() if k != name}], f":2: no field '{name}'; every given pair needs")
            for name in _PAIR
        ),
        ([{**_PAIR, "chosen": " "}], ":1: field 'chosen' is empty"),
        ([{**_PAIR, "text": ""}], ":1: field 'text' is empty"),
        ([{**_PAIR, "user_id": ""}], ":1: field 'user_id' is empty"),
        ([{**_PAIR, "rejected": []}], ":1: field 'rejected' does not end in a message"),
        ([{**_PAIR, "rejected": [{"role": "user"}]}], ":1: field 'rejected' does not end in a message"),
        ([{**_PAIR, "chosen": 3}], ":1: field 'chosen': expected str"),
        ([{**_PAIR, "profile": [{"text": "t"}]}], ":1: no field 'doc_id'"),
        ([{**_PAIR, "date": "soon"}], ":1: field 'date' is not a date"),
        (["[]"], ":1: "),
    ],
)
def test_what_is_no_pair_is_named_by_its_line(read, tmp_path, lines, message):
    with pytest.raises(DataError) as caught:
        read(*lines)

    assert str(caught.value).startswith(f"{tmp_path / 'pairs.jsonl'}{message}")
    assert "We look" not in str(caught.value)
