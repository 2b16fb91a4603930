from __future__ import annotations

import json

import pytest

from tests.conftest import contents


@pytest.fixture
def generate(prlm, workspace, tiny_model):
    """Runs `prlm generate` with the tiny model and short answers."""

    def run(*args, input=None):
        return prlm(
            "generate", *args, "-w", workspace, "--model", tiny_model, "--max-new-tokens", "6", "--offline", input=input
        )

    return run


def test_without_a_policy_the_base_model_answers_and_that_is_said_once(generate, workspace):
    before = contents(workspace)
    result = generate()

    assert (result.exit_code, result.stderr) == (0, "prlm: no policy yet: using the base model\n")
    assert [record["query_id"] for record in result.records] == ["ada-q12", "ben-q12", "cem-q12"]
    assert {record["policy"] for record in result.records} == {"untrained"}
    assert contents(workspace) == before


def test_policy_none_is_the_base_model_without_a_word(generate):
    named, unnamed = generate("--policy", "none"), generate()

    assert named.stderr == ""
    assert named.stdout == unnamed.stdout


def test_a_generation_is_its_retrieved_record_with_what_was_written(generate, prlm, workspace):
    retrieved = prlm("retrieve", "-w", workspace)
    generated = generate("-", "-q", input=retrieved.stdout)

    for before, after in zip(retrieved.records, generated.records, strict=True):
        assert after.items() >= before.items()
        assert (after["seed"], after["reasoning"]) == (0, None)
        assert 0 < after["usage"]["completion_tokens"] <= 6
        assert after["usage"]["records"] == len(before["profile"]) == 4


def test_queries_get_their_records_from_the_index_first(generate, prlm, workspace, write_jsonl):
    path = write_jsonl([{"query_id": "q", "user_id": "ada", "text": "parsing"}], "q.jsonl")
    retrieved = prlm("retrieve", path, "-w", workspace)

    assert generate(path, "-q").stdout == generate("-", "-q", input=retrieved.stdout).stdout


def test_one_text_of_one_user(generate):
    (record,) = generate("--user", "cem", "--text", "alignment of corpora", "-q").records

    assert (record["user_id"], record["text"]) == ("cem", "alignment of corpora")


def test_greedy_decoding_gives_the_same_alone_and_in_a_batch(generate):
    assert generate("--batch-size", "1").stdout == generate("--batch-size", "16").stdout


def test_json_and_an_output_file_hold_what_the_stream_holds(generate, tmp_path):
    records = generate("-q").records

    assert json.loads(generate("-q", "--json").stdout) == records
    assert generate("-q", "-o", "out.jsonl") == (0, "", "")
    assert [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()] == records


def test_what_generate_writes_eval_and_compare_read(generate, prlm, tmp_path):
    generate("-q", "-o", "out.jsonl")

    assert prlm("eval", "out.jsonl", "--metrics", "rougeL").exit_code == 0
    assert prlm("compare", "out.jsonl", "out.jsonl").exit_code == 0
