from __future__ import annotations

import json

import pytest

from prlm_cli.core.workspace import Workspace
from prlm_cli.pipeline.index import index


def _rows(stdout):
    return [" ".join(line.split()) for line in stdout.splitlines()]


def test_show_says_what_the_index_holds(prlm, workspace, golden):
    result = prlm("show", "-w", workspace, "--head", 2)

    assert (result.exit_code, result.stderr) == (0, "")
    golden("show.txt", result.stdout)


def test_show_names_encoders_and_the_shared_corpus_where_there_are_some(prlm, workspace, write_jsonl):
    place = Workspace(workspace)
    with place.open_store() as store:
        store.keep_vectors("ada", "minilm;384", {entry.rid: b"v" for entry in store.history("ada").entries})
    index(place, [write_jsonl([{"text": "Known to all."}])], shared=True)

    rows = _rows(prlm("show", "-w", workspace).stdout)

    assert {"vectors, minilm;384 8", "shared documents 1"} < set(rows)
    assert "user documents queries" not in rows


def test_show_as_json(prlm, workspace):
    shown = json.loads(prlm("show", "-w", workspace, "--head", 1, "--json").stdout)

    assert shown.pop("size_bytes") > 10_000
    assert shown == {
        "users": 3,
        "documents": 24,
        "queries": {"dev": 3, "test": 3, "train": 6},
        "language": "english",
        "history": {"min": 8, "median": 8.0, "mean": 8.0, "max": 8},
        "encoders": {},
        "shared_documents": None,
        "first_users": [{"user_id": "ada", "documents": 8, "queries": 4}],
    }


def test_show_of_a_user_lists_documents_and_queries(prlm, workspace, golden):
    result = prlm("show", "ada", "-w", workspace, "--head", 3)

    assert (result.exit_code, result.stderr) == (0, "")
    golden("show-user.txt", result.stdout)


def test_show_of_a_user_as_json_holds_the_records(prlm, workspace):
    shown = json.loads(prlm("show", "ada", "-w", workspace, "--head", 1, "--json").stdout)

    assert (shown["user_id"], len(shown["queries"])) == ("ada", 4)
    assert [document["doc_id"] for document in shown["documents"]] == ["d8"]
    assert shown["documents"][0]["text"].startswith("We study")


def test_text_is_shown_without_its_control_characters(prlm, write_jsonl):
    nasty = "\x1b[2J\u202e[bold]x"
    prlm("index", write_jsonl([{"user_id": nasty, "doc_id": nasty, "text": "t", "title": nasty, "date": "2024"}]))

    for args in (["show", "--head", 1], ["show", nasty]):
        stdout = prlm(*args).stdout
        assert "\\x1b[2J\\u202e[bold]x" in stdout
        assert not {"\x1b", "\u202e"} & set(stdout)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["show", "adb"], "no user 'adb' in the index"),
        (["show", "-w", "none"], "no index in none; run `prlm index DATA` first"),
        (["show", "ada", "-w", "none"], "no index in none; run `prlm index DATA` first"),
    ],
)
def test_what_is_not_there_is_one_line_and_exit_2(prlm, workspace, args, message):
    where = [] if "-w" in args else ["-w", workspace]

    assert prlm(*args, *where) == (2, "", f"prlm: {message}\n")


def test_a_negative_head_is_a_usage_error(prlm, workspace):
    result = prlm("show", "-w", workspace, "--head", -1)

    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
