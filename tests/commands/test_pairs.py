from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
import tomllib

import pytest

from tests.conftest import contents, tiny_corpus

_FEW = ["--offline"]
for _setting in ("generation.max_new_tokens=6", "pairs.length_skew=1", "prompt.layout=completion"):
    _FEW += ["--set", _setting]


@pytest.fixture
def pairs(prlm, workspace, tiny_model):
    """Runs `prlm pairs` with the tiny model and short answers."""
    return lambda *args, input=None: prlm("pairs", *args, "-w", workspace, "--model", tiny_model, *_FEW, input=input)


def test_pairs_are_lines_on_stdout_and_all_else_goes_to_stderr(pairs):
    result = pairs()

    assert result.exit_code == 0
    assert result.stderr == f"prlm: {len(result.records)} pairs" + result.stderr.partition("pairs")[2]
    assert {record["kind"] for record in result.records} >= {"target>swapped", "target>swapped_near"}
    for record in result.records:
        assert record.keys() >= {"query_id", "user_id", "text", "profile", "chosen", "rejected", "target"}
        assert len(record["profile"]) == 4


def test_the_same_again_is_the_same_and_needs_no_model(pairs, monkeypatch):
    from prlm_cli.engines.hf import HfEngine

    first = pairs()
    monkeypatch.setattr(HfEngine, "_complete_batch", None)

    assert pairs() == first
    assert pairs("--resume", "never").exit_code == 70


def test_pairs_of_queries_from_a_stream(pairs):
    queries = [record for record in tiny_corpus() if record.get("query_id") in ("ada-q9", "ben-q9", "ben-q11")]

    result = pairs("-", "-q", input="".join(json.dumps(query) + "\n" for query in queries))

    assert (result.exit_code, result.stderr) == (0, "")
    assert {record["query_id"] for record in result.records} == {"ada-q9", "ben-q9", "ben-q11"}
    assert {record.get("swapped_user_id") for record in result.records} == {"ada", "ben"}


def test_a_file_is_written_once_and_found_complete_and_never_overwritten_unasked(pairs, tmp_path):
    path = tmp_path / "pairs.jsonl"
    result = pairs("-o", path)
    written = path.read_text()
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr.endswith(f"pairs in {path}\n")

    again = pairs("-o", path)
    assert (again.exit_code, again.stderr.endswith(f"prlm: {path} is complete\n")) == (0, True)

    path.write_text(written.replace("ada", "eda"))
    other = pairs("-o", path)
    assert (other.exit_code, other.stdout) == (2, "")
    assert other.stderr.endswith(f"prlm: {path} exists; use --force to replace it\n")
    assert "eda" in path.read_text()

    assert pairs("-o", path, "--force").exit_code == 0
    assert path.read_text() == written == pairs("-q").stdout


def test_json_is_a_summary_of_what_was_built_and_left_out(pairs, tmp_path):
    result = pairs("--json", "-o", tmp_path / "pairs.jsonl", "-k", "2")
    found = json.loads(result.stdout)
    lines = [json.loads(line) for line in (tmp_path / "pairs.jsonl").read_text().splitlines()]

    assert found["pairs"] == len(lines) and found["users"] == 3
    assert found["kinds"]["target>swapped"].keys() == {"pairs", "equal", "unreadable", "alone", "length"}
    assert found["kinds"]["target>swapped"]["pairs"] == sum(line["kind"] == "target>swapped" for line in lines)
    assert {len(line["profile"]) for line in lines} == {2}


def test_a_dry_run_prints_the_configuration_and_changes_nothing(pairs, tmp_path):
    before = contents(tmp_path)
    result = pairs("--dry-run", "--policy", "warm-start", "--max-queries", "9", "--seed", "7", "--preset", "paper")
    config = tomllib.loads(result.stdout)

    assert (result.exit_code, result.stderr) == (0, "")
    assert (config["seed"], config["pairs"]["policy"], config["pairs"]["max_queries"]) == (7, "warm-start", 9)
    assert config["pairs"]["kinds"] == ["own>zero_shot"]
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ["--set", "pairs.kinds=['own>swaped']"],
            "--set pairs.kinds: expected kinds of pairs, and 'own>swaped' is none",
        ),
        (["--set", "pairs.kinds=[]"], "--set pairs.kinds: expected at least one kind of pairs; known: target>own, "),
        (["--set", "pairs.kinds=['own>swapped']", "--set", "pairs.swapped=false"], "pairs.kinds: all of them need"),
        (["--policy", "nobody"], "no run 'nobody' in "),
        (["--resume", "maybe"], "--resume maybe; known: auto, never"),
        (["-k", "0"], "no training query has records of its user; index documents"),
        (["nowhere.jsonl"], "nowhere.jsonl: no such file"),
    ],
)
def test_what_is_wrong_is_one_line_and_nothing_is_written(pairs, tmp_path, args, message):
    before = contents(tmp_path)
    result = pairs(*args, "-o", tmp_path / "pairs.jsonl")

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"prlm: {message}") and result.stderr.count("\n") == 1
    assert contents(tmp_path) == before


def test_a_kind_that_is_nearly_one_is_suggested(pairs):
    result = pairs("--set", "pairs.kinds=['own>swaped']")

    assert result.stderr.endswith("; did you mean own>swapped?\n")


def test_one_user_has_nobody_to_stand_in(pairs, write_jsonl):
    alone = write_jsonl([record for record in tiny_corpus() if record["user_id"] == "ada" and "query_id" in record])

    result = pairs(alone)

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == ("prlm: swapped pairs need two users; index more users, or --set pairs.swapped=false\n")
    assert pairs(alone, "--set", "pairs.swapped=false", "--set", "pairs.kinds=['target>own']").exit_code == 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_killed_at_any_moment_the_same_again_writes_the_same_file(workspace, tiny_model, tmp_path, pairs, seed):
    plain, path = tmp_path / "plain.jsonl", tmp_path / "pairs.jsonl"
    few = ["--model", str(tiny_model), *_FEW, "--set", "generation.batch_size=1"]
    assert pairs("-o", plain, "--resume", "never", "--set", "generation.batch_size=1").exit_code == 0
    command = [sys.executable, "-m", "prlm_cli", "pairs", "-w", str(workspace), "-o", str(path), *few]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    cache = workspace / "cache"
    while process.poll() is None and not any(file.stat().st_size for file in cache.glob("*.jsonl")):
        time.sleep(0.001)
    time.sleep(random.Random(seed).uniform(0, 0.3))
    process.send_signal(signal.SIGKILL)
    process.wait()

    assert subprocess.run(command, capture_output=True).returncode == 0
    assert path.read_bytes() == plain.read_bytes()
    (kept,) = cache.glob("completions-*.jsonl")
    keys = [json.loads(line)["key"] for line in kept.read_text().splitlines()]
    assert len(keys) == len(set(keys))


@pytest.mark.model
def test_the_embedded_model_writes_pairs(prlm, workspace, embedded_model):
    few = ("--max-queries", "3", "--set", "pairs.length_skew=1")

    result = prlm("pairs", "-w", workspace, *few, "--offline")

    assert result.exit_code == 0
    kinds = [record["kind"] for record in result.records]
    assert {"own>zero_shot", "target>swapped"} <= set(kinds)
    assert all(record["chosen"] != record["rejected"] for record in result.records)
    assert prlm("pairs", "-w", workspace, *few, "--offline").stdout == result.stdout
