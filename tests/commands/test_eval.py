import json

import pytest

RETRIEVED = {"query_id": "q1", "user_id": "u1", "text": "t", "target": "fix a leak", "profile": [], "retriever": "bm25"}
SECRET = "a very private answer"


def generation(query_id, user_id, answer, **fields):
    made = {"completion": str(answer), "reasoning": None, "answer": answer, "policy": "trained", "seed": 0}
    return RETRIEVED | {"query_id": query_id, "user_id": user_id} | made | fields


ROWS = [generation("q1", "u1", "fix a leak"), generation("q2", "u2", "fix it"), generation("q3", "u3", None)]


def test_eval_prints_a_table(prlm, write_jsonl):
    result = prlm("eval", write_jsonl(ROWS), "--metrics", "exact_match,extract_fail,copy_rate")

    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "metric          mean     95 % interval  n",
        "exact_match   0.3333  [0.0000, 1.0000]  3",
        "extract_fail  0.3333  [0.0000, 1.0000]  3",
        "copy_rate        n/a               n/a  0",
    ]
    assert result.stderr == "prlm: 3 generations for 3 users; policy trained; retriever bm25\n"


def test_eval_reads_standard_input_and_prints_json(prlm):
    lines = "".join(json.dumps(row) + "\n" for row in ROWS)

    result = prlm("eval", "-", "--json", "--metrics", "exact_match", input=lines)
    summary = json.loads(result.stdout)

    assert (result.exit_code, result.stderr) == (0, "")
    assert (summary["n"], summary["users"], summary["policies"]) == (3, 3, ["trained"])
    assert summary["metrics"]["exact_match"]["mean"] == pytest.approx(1 / 3)


def test_eval_reports_the_configured_metrics(prlm, write_jsonl):
    data = write_jsonl(ROWS)

    default = prlm("eval", data, "--json")
    chosen = prlm("eval", data, "--json", "--set", 'eval.metrics=["length"]')

    assert list(json.loads(default.stdout)["metrics"])[:3] == ["rouge1", "rouge2", "rougeL"]
    assert list(json.loads(chosen.stdout)["metrics"]) == ["length"]


def test_eval_says_the_same_for_the_same_seed(prlm, write_jsonl):
    data = write_jsonl([generation(f"q{n}", f"u{n}", " ".join("word" for _ in range(n))) for n in range(30)])
    one, again, other = (
        prlm("eval", data, "--json", "--metrics", "length", "--seed", seed).stdout for seed in (1, 1, 2)
    )

    assert one == again
    assert one != other


def test_eval_writes_a_score_record_per_query(prlm, write_jsonl, tmp_path):
    scores = tmp_path / "scores.jsonl"

    result = prlm("eval", write_jsonl(ROWS), "--metrics", "exact_match,copy_rate", "--per-query", scores)

    assert (result.exit_code, result.stderr.splitlines()[-1]) == (0, f"prlm: 3 records in {scores}")
    assert json.loads(scores.read_text().splitlines()[0]) == {
        "query_id": "q1", "user_id": "u1", "exact_match": 1.0, "copy_rate": None,
    }  # fmt: skip


def test_eval_replaces_a_score_file_only_by_force(prlm, write_jsonl, tmp_path):
    data, scores = write_jsonl(ROWS), tmp_path / "scores.jsonl"
    scores.write_text("")

    refused = prlm("eval", data, "--per-query", scores)
    forced = prlm("eval", data, "--per-query", scores, "--force")

    assert (refused.exit_code, forced.exit_code) == (2, 0)
    assert refused.stderr.splitlines()[-1] == f"prlm: {scores} exists; use --force to replace it"


def test_eval_prints_the_scores_of_queries_on_standard_output(prlm, write_jsonl):
    result = prlm("eval", write_jsonl(ROWS), "--per-query", "-", "--metrics", "extract_fail")

    assert [record["extract_fail"] for record in result.records] == [0.0, 0.0, 1.0]


@pytest.mark.parametrize(
    "arguments, rows, message",
    [
        ([], [RETRIEVED], "{data}:1: no field 'answer'; pipe it through `prlm generate -`"),
        ([], [ROWS[0], {"query_id": "q2", "answer": SECRET}], "{data}:2: no field 'user_id'; every generation needs"),
        ([], [{"user_id": "u1", "text": SECRET}], "{data}:1: no field 'query_id'"),
        ([], [], "no generations to evaluate; give at least one record"),
        (["--metrics", "rogueL"], ROWS, "no metric 'rogueL'; did you mean rougeL?"),
        (["--metrics", ""], ROWS, "no metric ''; known:"),
    ],
    ids=["retrieved", "half", "document", "empty", "unknown-metric", "no-metric"],
)
def test_eval_refuses_in_one_line(prlm, write_jsonl, arguments, rows, message):
    data = write_jsonl(rows)

    result = prlm("eval", data, *arguments)

    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert result.stderr.startswith("prlm: " + message.format(data=data))
    assert SECRET not in result.stderr


def test_eval_without_input_says_what_to_give(prlm):
    result = prlm("eval")

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "prlm: eval has no INPUT; name a JSONL file of generations, or - for standard input\n"


def test_eval_keeps_quiet(prlm, write_jsonl):
    assert prlm("eval", write_jsonl(ROWS), "-q").stderr == ""


def test_eval_shows_control_characters_of_a_policy_name_as_escapes(prlm, write_jsonl):
    result = prlm("eval", write_jsonl([generation("q1", "u1", "a", policy="\x1b[31mred")]))

    assert "policy \\x1b[31mred;" in result.stderr
