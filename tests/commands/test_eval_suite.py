import json

import pytest

from tests.engines.chat_server import serving
from tests.pipeline.suites.files import realpref_rows, write_suite

FEW = ("--set", "generation.engine=openai", "--set", "server.model=m", "--set", "eval.bootstrap=100")


@pytest.fixture
def lamp(tmp_path):
    path, _, target = write_suite("lamp-5", tmp_path)
    with serving(lambda body: f"Title: {target}") as server:
        yield path, "--set", f"server.url={server.url}", *FEW


def test_eval_suite_prints_a_table(prlm, lamp):
    result = prlm("eval", "--suite", "lamp-5", *lamp)

    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "figure   of   value     95 % interval  n",
        "rouge1  all  1.0000  [1.0000, 1.0000]  2",
        "rougeL  all  1.0000  [1.0000, 1.0000]  2",
    ]
    assert result.stderr.splitlines()[-1] == "prlm: lamp-5: 2 questions of 2 users; policy openai:m"


def test_eval_suite_prints_json_and_writes_a_record_per_query(prlm, lamp, tmp_path):
    scores = tmp_path / "scores.jsonl"

    result = prlm("eval", "--suite", "lamp-5", *lamp, "--json", "--per-query", scores, "--metrics", "exact_match")
    summary = json.loads(result.stdout)

    assert (summary["suite"], summary["n"], summary["figures"][0]["name"]) == ("lamp-5", 2, "exact_match")
    assert [json.loads(line)["exact_match"] for line in scores.read_text().splitlines()] == [1.0, 1.0]


def test_eval_suite_says_what_it_could_not_measure(prlm, write_jsonl):
    with serving(lambda body: "A") as server:
        place = ("--set", f"server.url={server.url}")
        result = prlm("eval", "--suite", "realpref", write_jsonl(realpref_rows()), *place, *FEW)

    assert result.exit_code == 0
    assert "prlm: 2 open questions have no judge" in result.stderr
    assert [line.split()[:2] for line in result.stdout.splitlines()[1:3]] == [["accuracy", "all"], ["chance", "all"]]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--suite", "lamp-5"], 2, "eval --suite has no INPUT"),
        (["--suite", "lamb-5", "x.json"], 2, "no suite 'lamb-5'; did you mean lamp-5?"),
        (["--suite", "lamp-5", "x.json", "--retrieval"], 2, "--retrieval and --suite do not go together"),
        (["--suite", "lamp-5", "x.json", "--reward-model"], 2, "--reward-model and --suite do not go together"),
        (
            ["--policy", "none", "x.jsonl"],
            2,
            "--policy given with generations, which hold their records",
        ),
        (["--suite", "lamp-5", "x.json", "--offline", *FEW], 2, "x.json"),
    ],
    ids=["no-input", "unknown", "retrieval", "reward-model", "policy", "no-file"],
)
def test_eval_suite_refuses_in_one_line(prlm, arguments, code, says):
    result = prlm("eval", *arguments)

    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (code, "", 1)
    assert says in result.stderr


def test_eval_suite_on_a_server_is_refused_offline(prlm, lamp):
    result = prlm("eval", "--suite", "lamp-5", *lamp, "--offline")

    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (3, "", 1)
    assert "--offline refuses that" in result.stderr
