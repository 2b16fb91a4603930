from __future__ import annotations

import json

from tests.conftest import contents, tiny_corpus


def test_index_counts_what_it_did_and_says_nothing_on_stdout(prlm, write_jsonl):
    data = write_jsonl(tiny_corpus())
    first = prlm("index", data)
    second = prlm("index", data)

    assert (first.exit_code, first.stdout) == (0, "")
    assert first.stderr.splitlines() == [
        "prlm: documents: 24 added, 0 updated, 0 unchanged",
        "prlm: queries: 12 added, 0 updated, 0 unchanged",
        "prlm: the index holds 3 users, 24 documents, 12 queries",
    ]
    assert second.stderr.splitlines()[:2] == [
        "prlm: documents: 0 added, 0 updated, 24 unchanged",
        "prlm: queries: 0 added, 0 updated, 12 unchanged",
    ]


def test_the_same_input_twice_changes_no_file(prlm, workspace, write_jsonl):
    before = contents(workspace)
    prlm("index", write_jsonl(tiny_corpus()), "-w", workspace)

    assert contents(workspace) == before


def test_index_as_json_on_standard_input(prlm):
    result = prlm("index", "-", "--json", "-q", input="".join(json.dumps(record) + "\n" for record in tiny_corpus()))

    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout) == {
        "documents": {"added": 24, "updated": 0, "unchanged": 0},
        "queries": {"added": 12, "updated": 0, "unchanged": 0},
        "rejected": 0,
        "total": {"users": 3, "documents": 24, "queries": 12},
    }


def test_quiet_says_nothing(prlm, write_jsonl):
    assert prlm("index", write_jsonl(tiny_corpus()), "--quiet") == (0, "", "")


def test_a_split_is_for_the_queries_that_name_none(prlm, write_jsonl):
    queries = [
        {"query_id": "a", "user_id": "u", "text": "one"},
        {"query_id": "b", "user_id": "u", "text": "two", "split": "train"},
    ]
    prlm("index", write_jsonl(queries), "--split", "dev")

    assert [record["query_id"] for record in prlm("retrieve", "--split", "dev").records] == ["a"]
    assert [record["query_id"] for record in prlm("retrieve", "--split", "train").records] == ["b"]


def test_the_workspace_may_come_from_the_environment(prlm, write_jsonl, monkeypatch, tmp_path):
    monkeypatch.setenv("PRLM_WORKSPACE", str(tmp_path / "elsewhere"))
    prlm("index", write_jsonl(tiny_corpus()))

    assert (tmp_path / "elsewhere" / "index.sqlite").is_file()
    assert not (tmp_path / ".prlm").exists()


def test_a_file_that_is_no_index_is_a_storage_error(prlm, write_jsonl, tmp_path):
    (tmp_path / ".prlm").mkdir()
    (tmp_path / ".prlm" / "index.sqlite").write_bytes(b"something else entirely" * 99)
    result = prlm("index", write_jsonl(tiny_corpus()))

    assert (result.exit_code, result.stdout) == (5, "")
    assert result.stderr.startswith("prlm: .prlm/index.sqlite: ") and result.stderr.count("\n") == 1
