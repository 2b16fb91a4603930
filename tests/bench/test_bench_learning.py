"""The benchmark of learning: every arm is judged with both profiles, against the arm that it began with."""

from __future__ import annotations

import json

import pytest

from tests.bench import learning
from tests.conftest import tiny_corpus


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    by_file = {"profiles": [], "queries.train": [], "queries.dev": []}
    for record in tiny_corpus():
        name = f"queries.{record['split']}" if "query_id" in record else "profiles"
        by_file.get(name, []).append(record)
    for name, records in by_file.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


def test_an_arm_is_set_against_its_start_and_done_once(data, tiny_model, tmp_path, capsys):
    settings = [
        f"model.name={tiny_model}",
        "prompt.max_tokens=512",
        "policy.steps=1",
        "policy.prompts_per_step=1",
        "policy.num_generations=2",
        "policy.max_new_tokens=4",
        "generation.max_new_tokens=4",
        "warm_start.steps=1",
    ]
    sets = [part for setting in settings for part in ("--set", setting)]
    arms = ["--arm", "hot,warm_start_grpo,policy.temperature=1.0", "--arms", "warm_start,grpo,hot"]
    workspace = tmp_path / "workspace"
    command = ["--json", "--data", str(data), "--workspace", str(workspace), "--seeds", "2", *arms, *sets]

    learning.main(command)
    first = capsys.readouterr()
    learning.main(command)
    again = capsys.readouterr()

    names = {figure["name"] for figure in json.loads(first.out)["figures"]}
    for arm, start in (("warm_start", "untrained"), ("grpo", "untrained"), ("hot", "warm_start")):
        parts = [f"over_{start}_low", "own_rouge_l", "swapped_rouge_l", "copy_rate", "shared_thoughts"]
        assert {f"{arm}_{part}" for part in parts} <= names
    assert again.out == first.out
    assert "GRPO" in first.err
    assert "GRPO" not in again.err
