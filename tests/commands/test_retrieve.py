from __future__ import annotations

import json
import re

import pytest

from tests.conftest import contents


def test_the_records_of_the_test_queries_are_the_golden_ones(prlm, workspace, golden):
    result = prlm("retrieve", "-k", "2", "-w", workspace)

    assert (result.exit_code, result.stderr) == (0, "")
    # The last digits of a score may differ between processors.
    golden("retrieve.jsonl", re.sub(r'"score":([\d.]+)', lambda score: f'"score":{float(score[1]):.6f}', result.stdout))


def test_nobody_gets_a_record_of_another_user(prlm, workspace, write_jsonl):
    corpus = [json.loads(line) for line in (workspace.parent / "tiny_corpus.jsonl").read_text().splitlines()]
    texts = {}
    for record in corpus:
        if "doc_id" in record:
            texts.setdefault(record["user_id"], set()).add(record["text"])

    for record in prlm("retrieve", "-k", "8", "-w", workspace).records:
        assert {document["text"] for document in record["profile"]} == texts[record["user_id"]]


def test_a_stream_and_a_file_give_the_same_in_the_order_of_the_input(prlm, workspace, write_jsonl):
    queries = [
        {"query_id": f"q{n}", "user_id": user, "text": "attention under noise"}
        for n, user in enumerate(["cem", "ada", "ben", "ada"])
    ]
    path = write_jsonl(queries, "q.jsonl")
    from_file = prlm("retrieve", path, "-w", workspace)

    assert [record["query_id"] for record in from_file.records] == ["q0", "q1", "q2", "q3"]
    assert prlm("retrieve", "-", "-w", workspace, input=path.read_text()) == from_file


def test_one_text_of_one_user(prlm, workspace):
    args = ["retrieve", "--user", "ben", "-k", "1", "-w", workspace]
    result = prlm(*args, "--text", "speech at scale")
    (record,) = result.records

    assert (record["user_id"], record["text"], len(record["profile"])) == ("ben", "speech at scale", 1)
    assert prlm(*args, "--text", "-", input="speech at scale") == result


def test_fields_that_prlm_does_not_know_are_passed_on(prlm, workspace, write_jsonl):
    path = write_jsonl([{"query_id": "q", "user_id": "ada", "text": "t", "venue": "here", "meta": {"a": 1}}], "q.jsonl")

    assert prlm("retrieve", path, "-w", workspace).records[0]["meta"] == {"a": 1, "venue": "here"}


@pytest.mark.parametrize("command", ["retrieve", "generate"])
def test_a_split_without_queries_is_an_error_and_not_an_empty_answer(prlm, workspace, command):
    result = prlm(command, "--split", "tests", "-w", workspace, "-q")

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "prlm: no tests queries in the index; name a file of queries, or another --split\n"


def test_a_user_without_queries_is_told_to_ask_one(prlm, workspace, write_jsonl):
    prlm("index", write_jsonl([{"user_id": "new", "text": "t"}], "new.jsonl"), "-w", workspace)
    result = prlm("generate", "--user", "new", "-w", workspace, "-q")

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "prlm: user 'new' has no queries in the index; ask one with --text\n"


def test_an_output_file_is_replaced_only_by_force(prlm, workspace, tmp_path):
    stdout = prlm("retrieve", "-w", workspace).stdout
    first = prlm("retrieve", "-w", workspace, "-o", "out.jsonl")

    assert first == (0, "", "prlm: 3 records in out.jsonl\n")
    assert (tmp_path / "out.jsonl").read_text() == stdout
    assert prlm("retrieve", "-w", workspace, "-o", "out.jsonl") == (
        2,
        "",
        "prlm: out.jsonl exists; use --force to replace it\n",
    )
    assert prlm("retrieve", "-w", workspace, "-o", "out.jsonl", "--force").exit_code == 0


def test_json_is_one_document(prlm, workspace):
    assert json.loads(prlm("retrieve", "-w", workspace, "--json").stdout) == prlm("retrieve", "-w", workspace).records


@pytest.mark.parametrize(("k", "count"), [("0", 0), ("1", 1), ("99", 8)])
def test_k_beyond_the_profile_gives_all_of_it(prlm, workspace, k, count):
    assert {len(record["profile"]) for record in prlm("retrieve", "-k", k, "-w", workspace).records} == {count}


def test_reading_changes_no_file(prlm, workspace):
    before = contents(workspace)
    prlm("retrieve", "-w", workspace)

    assert contents(workspace) == before
