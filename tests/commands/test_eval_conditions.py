from __future__ import annotations

import json

import pytest

from tests.pipeline.small import FEW, indexed


@pytest.fixture
def settings(tiny_model, tmp_path):
    fields = [f"model.name={tiny_model}", *FEW]
    flags = [part for field in fields for part in ("--set", field)]
    return ["-w", indexed(tmp_path).folder, "--policy", "none", "--split", "train", *flags]


def test_controls_print_json_with_a_difference_for_each_condition_and_the_gains(prlm, settings, tmp_path):
    result = prlm("eval", "--controls", "--json", "--report", tmp_path / "page.html", *settings)

    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["reference"] == "own"
    assert [bool(each["difference"]) for each in found["conditions"]] == [False, *[True] * 6]
    assert set(found["gains"]) >= {"personalization gain", "reasoning gain"}
    page = (tmp_path / "page.html").read_text()
    assert "prlm eval --controls" in page
    assert "personalization gain" in page


def test_controls_print_a_table_a_metric_and_one_of_gains(prlm, settings):
    result = prlm("eval", "--controls", "--metrics", "rougeL,length", *settings)

    assert result.exit_code == 0, result.stderr
    heads = [line.split()[0] for line in result.stdout.splitlines() if "95 % interval" in line]
    assert heads == ["rougeL", "length", "gain"]
    assert "each condition is compared with own" in result.stderr


def test_attacks_without_names_are_all_of_them(prlm, settings):
    result = prlm("eval", "--attack", "--json", *settings)

    assert result.exit_code == 0, result.stderr
    changes = json.loads(result.stdout)["changes"]
    assert list(changes) == ["swap", "enrich", "pad", "user-swap", "shuffle", "dup", "injection"]
    assert changes["injection"]["obeyed"]["n"] > 0


def test_a_sweep_writes_the_scores_of_each_query(prlm, settings):
    result = prlm("eval", "--sweep", "k=0,2", "--metrics", "rougeL", "--per-query", "-", *settings)

    assert result.exit_code == 0, result.stderr
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert {row["condition"] for row in rows} == {"k=0", "k=2"}
    assert set(rows[0]) == {"condition", "query_id", "user_id", "rougeL"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--controls", "--attack", "all"], "--controls and --attack do not go together"),
        (["--controls", "--submission", "x"], "--submission does not go with --controls"),
        (["x.jsonl", "--policy", "none"], "--policy given with generations"),
        (["--baseline", "worst", "--policy", "none"], "--baseline worst"),
        (["--sweep", "j=1", "--policy", "none"], "no setting 'j' of retrieval or prompt"),
        (["--attack", "swop", "--policy", "none"], "no attack 'swop'"),
        (["--controls", "--metrics", "rogueL", "--policy", "none"], "rogueL"),
    ],
)
def test_flags_that_make_no_sense_are_refused_in_one_line(prlm, workspace, arguments, message):
    result = prlm("eval", "-w", workspace, *arguments)

    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert message in result.stderr
