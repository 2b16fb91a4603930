"""The commands one after the other, as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.pipeline.small import FEW


def _sets(*assignments: str) -> list[str]:
    return [part for assignment in assignments for part in ("--set", assignment)]


def _first_lines(source: Path, target: Path, count: int) -> Path:
    lines = source.read_text(encoding="utf-8").splitlines(keepends=True)
    target.write_text("".join(lines[:count]), encoding="utf-8")
    return target


@pytest.fixture
def ok(prlm):
    """Runs a command that must succeed without a word of error."""

    def run(*args, **options):
        result = prlm(*args, **options)
        assert result.exit_code == 0, result.stderr
        assert "Traceback" not in result.stderr
        return result

    return run


def test_the_whole_pipeline_with_a_tiny_model(ok, workspace, tiny_model):
    few = ["-w", workspace, *_sets(f"model.name={tiny_model}", *FEW)]

    reward = json.loads(ok("train-reward", *few, "--json").stdout)
    policy = json.loads(ok("train-policy", "--qlora", "--steps", 2, *few, "--json").stdout)
    retrieved = ok("retrieve", "-k", 3, "-w", workspace)
    generated = ok("generate", "-", "-w", workspace, input=retrieved.stdout)
    scored = ok("score", "-", "-w", workspace, input=generated.stdout)
    scores = json.loads(ok("eval", "-", "--json", input=scored.stdout).stdout)

    assert all(0 < r["reward"] < 1 if r.get("answer") else "reward" not in r for r in scored.records)
    assert (reward["run"], policy["run"], policy["steps"]) == ("reward-1", "policy-1", 2)
    assert {record["policy"] for record in generated.records} == {"policy-1"}
    assert [r["query_id"] for r in generated.records] == [r["query_id"] for r in retrieved.records]
    assert all(len(record["profile"]) == 3 for record in generated.records)
    assert "rougeL" in json.dumps(scores)


def test_the_shortest_uses_of_generate(ok, workspace, tiny_model):
    few = ["-w", workspace, "--model", tiny_model, "--policy", "none", "--max-new-tokens", 4]

    own = ok("generate", "--user", "ada", *few)
    one = ok("generate", "--user", "ada", "--text", "We look at trees.", *few)
    piped = ok("generate", "--user", "ada", "--text", "-", *few, input="We look at trees.\n")

    assert {record["user_id"] for record in own.records} == {"ada"}
    assert one.stdout == piped.stdout
    assert one.records[0]["text"] == "We look at trees."


def test_the_same_command_gives_the_same_bytes(ok, workspace, tiny_model):
    few = ["-w", workspace, "--model", tiny_model, "--policy", "none", "--max-new-tokens", 4, "--temperature", 1]

    assert ok("generate", *few).stdout == ok("generate", *few).stdout
    assert ok("generate", *few, "--seed", 1).stdout != ok("generate", *few).stdout


@pytest.mark.model
def test_the_whole_pipeline_with_the_embedded_model_on_real_commits(ok, shared_data, embedded_model, tmp_path):
    data, place = shared_data / "commits-small", tmp_path / "w"
    queries = {
        split: _first_lines(data / f"queries.{split}.jsonl", tmp_path / f"{split}.jsonl", count)
        for split, count in {"train": 8, "dev": 2, "test": 3}.items()
    }
    few = ["-w", place, *_sets("prompt.task=subjects", "prompt.max_tokens=192", "retrieval.k=2")]
    few += _sets("warm_start.steps=2", "warm_start.batch_size=2", "policy.num_generations=2", "policy.eval_queries=1")
    few += _sets("policy.prompts_per_step=1", "generation.max_new_tokens=24", "policy.max_new_tokens=24")

    ok("index", data / "profiles.jsonl", "-w", place)
    for split in ("train", "dev"):
        ok("index", queries[split], "--split", split, "-w", place)
    policy = ok("train-policy", "--steps", 1, "--reasoning", "off", *few, "--json")
    retrieved = ok("retrieve", queries["test"], "-k", 2, "-w", place)
    generated = ok("generate", "-", "-w", place, input=retrieved.stdout)
    scores = ok("eval", "-", "--json", input=generated.stdout)

    assert json.loads(policy.stdout)["steps"] == 1
    assert len(generated.records) == 3
    assert all(record["answer"] and "\n" not in record["answer"] for record in generated.records)
    assert json.loads(scores.stdout)
