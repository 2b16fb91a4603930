from __future__ import annotations

import json

import msgspec
import pytest

from prlm_cli.core.workspace import Workspace
from prlm_cli.pipeline.train_reward import train_reward
from prlm_cli.training import contrastive
from tests.conftest import contents
from tests.pipeline.scorers import pairs_of
from tests.pipeline.small import small

PAIRS = pairs_of(users=6)


@pytest.fixture
def run(tiny_model, workspace, monkeypatch):
    monkeypatch.setattr(contrastive, "train_contrastive", lambda *_, **__: 1)
    return train_reward(Workspace(workspace), small(tiny_model, "prompt.reasoning=off"), pairs=PAIRS, name="mine")


@pytest.fixture
def judge(prlm, workspace, run):
    return lambda *arguments: prlm("eval", *arguments, "-w", workspace, "--set", "diagnostics.samples=0")


def test_eval_judges_the_newest_or_a_named_reward_model_and_changes_no_file(judge, workspace):
    before = contents(workspace)

    newest, named = judge("--reward-model"), judge("--reward-model", "mine")

    assert newest == named
    assert (newest.exit_code, newest.stderr) == (0, "")
    lines = newest.stdout.splitlines()
    assert lines[0].startswith("held-out users: ")
    assert [line.split()[0] for line in lines if line.startswith(("own>", "target>"))][:3] == [
        "own>swapped",
        "own>zero_shot",
        "target>swapped",
    ]
    assert "gate " in lines[-1]
    assert contents(workspace) == before


@pytest.mark.parametrize(
    "bare", [["--reward-model", "--json"], ["--reward-model=", "--json"], ["--json", "--reward-model"]]
)
def test_the_flag_needs_no_value_wherever_it_stands(judge, bare):
    found = json.loads(judge(*bare).stdout)

    assert list(found) == ["run", "verdict", "gate", "temperature", "users", "queries"]
    assert found["run"] == "mine"


def test_eval_takes_other_pairs_from_a_file_or_standard_input(judge, prlm, workspace, write_jsonl):
    given = [msgspec.structs.replace(pair, user_id=f"new-{pair.user_id}") for pair in PAIRS]
    data = write_jsonl([msgspec.to_builtins(pair) for pair in given], "pairs.jsonl")

    from_file = judge(data, "--reward-model", "--json")
    more = ("--json", "-w", workspace, "--set", "diagnostics.samples=0")
    from_stdin = prlm("eval", "--reward-model", "-", *more, input=data.read_text())

    assert from_file == from_stdin
    found = json.loads(from_file.stdout)
    assert (found["users"]["pairs"], found["queries"]) == (len(PAIRS), None)


def test_eval_writes_a_record_a_pair(judge, tmp_path):
    result = judge("--reward-model", "--per-query", "-")

    assert list(result.records[0]) == ["query_id", "user_id", "part", "kind", "margin", "interaction"]


def test_eval_writes_a_page_and_replaces_it_by_force_only(judge, tmp_path):
    page = tmp_path / "report.html"

    written, again, forced = (judge("--reward-model", "--report", page, *more) for more in ([], [], ["--force"]))

    assert written.stderr == f"prlm: report in {page}\n"
    assert page.read_text().startswith("<!doctype html>")
    assert (again.exit_code, again.stderr) == (2, f"prlm: {page} exists; use --force to replace it\n")
    assert forced.exit_code == 0


def test_eval_shows_no_users_text_of_a_pair(judge):
    outputs = [judge("--reward-model", *more) for more in ([], ["--json"], ["--per-query", "-"])]

    for pair in PAIRS:
        for text in (pair.text, pair.chosen, pair.rejected, pair.profile[0].title):
            assert not any(text in stream for result in outputs for stream in (result.stdout, result.stderr))


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            ["--reward-model", "--retrieval"],
            "--retrieval and --reward-model do not go together; leave one",
        ),
        (
            ["--reward-model", "-k", "3", "--metrics", "rougeL"],
            "--metrics, retrieval.k does not go with --reward",
        ),
        (["--reward-model", "other"], "no run 'other' in "),
        (["--reward-model", "pairs.jsonl"], "--reward-model pairs.jsonl: that is a file; write INPUT before"),
        (["--retrieval", "--report", "x.html"], "--report does not go with --retrieval; leave one of the two out"),
    ],
    ids=["retrieval", "flags", "unknown", "file", "report"],
)
def test_eval_refuses_in_one_line(judge, write_jsonl, arguments, message):
    write_jsonl([], "pairs.jsonl")

    result = judge(*arguments)

    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert result.stderr.startswith(f"prlm: {message}")


def test_without_a_reward_model_eval_says_what_to_run(prlm, workspace):
    result = prlm("eval", "--reward-model", "-w", workspace)

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"prlm: no reward model in {workspace}; run `prlm train-reward` first\n"


def test_eval_takes_pairs_of_preference_data_without_a_kind(judge, write_jsonl):
    rows = [{"user_id": f"new{n}", "prompt": "We parse.", "chosen": "Parsing", "rejected": f"A {n}"} for n in range(3)]

    result = judge(write_jsonl(rows, "given.jsonl"), "--reward-model", "--json")

    found = json.loads(result.stdout)
    assert list(found["users"]["model"]["accuracy"]["kinds"]) == ["given"]
    assert (found["verdict"], found["users"]["model"]["interaction"]) == (
        "not known: no pair has another user's records; gate closed",
        None,
    )
