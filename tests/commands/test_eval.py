import json

import pytest

from tests.conftest import contents

MEASURES = ["best_rouge1", "mean_rouge1", "best_rougeL", "mean_rougeL"]
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
    data = write_jsonl([generation(f"q{n}", f"u{n}", "word " * n**2) for n in range(30)])
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


def test_eval_prints_the_same_table_in_markdown(prlm, write_jsonl):
    data = write_jsonl(ROWS)

    plain, markdown = (prlm("eval", data, "--metrics", "exact_match,copy_rate", *more) for more in ([], ["--md"]))

    assert markdown.stdout.splitlines() == [
        "| metric | mean | 95 % interval | n |",
        "| :-- | --: | --: | --: |",
        "| exact_match | 0.3333 | [0.0000, 1.0000] | 3 |",
        "| copy_rate | n/a | n/a | 0 |",
    ]
    assert markdown.stderr == plain.stderr


def test_eval_prints_retrieval_in_markdown(prlm, workspace):
    result = prlm("eval", "--retrieval", "-w", workspace, "--md")

    assert result.exit_code == 0
    assert result.stdout.startswith("| retriever | overlap | value |")


def test_eval_refuses_two_forms_of_the_table(prlm, write_jsonl):
    result = prlm("eval", write_jsonl(ROWS), "--md", "--json")

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "prlm: --json and --md do not go together; leave one of the two out\n"


@pytest.mark.parametrize("source", ["file", "stdin"])
def test_eval_writes_a_report_beside_its_table(prlm, write_jsonl, tmp_path, source):
    data, page = write_jsonl(ROWS), tmp_path / "report.html"
    given = {"input": data.read_text()} if source == "stdin" else {}

    result = prlm("eval", "-" if source == "stdin" else data, "--report", page, "--metrics", "exact_match", **given)

    assert (result.exit_code, result.stdout.count("exact_match")) == (0, 1)
    assert result.stderr.splitlines()[-1] == f"prlm: report in {page}"
    html = page.read_text()
    assert html.startswith("<!doctype html>")
    assert html.count("<article") == 3


def test_eval_reports_on_the_documents_that_its_index_has(prlm, workspace, write_jsonl, tmp_path):
    rows = [generation("q1", "ada", "a"), generation("q2", "ben", "b")]
    prlm("forget", "--doc", "ben/d1", "-w", workspace, "--yes")

    result = prlm("eval", write_jsonl(rows), "-w", workspace, "--report", tmp_path / "x.html")

    assert result.exit_code == 0
    assert "rougeL by user&#39;s documents in the index" in (tmp_path / "x.html").read_text()


def test_eval_replaces_a_report_by_force_only_and_says_so_before_it_reads(prlm, tmp_path):
    page = tmp_path / "report.html"
    page.write_text("mine")

    result = prlm("eval", "nowhere.jsonl", "--report", page)

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"prlm: {page} exists; use --force to replace it\n"
    assert page.read_text() == "mine"


def test_eval_writes_no_report_to_standard_output(prlm, write_jsonl):
    result = prlm("eval", write_jsonl(ROWS), "--report", "-")

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "prlm: --report -: a report goes to a file; name one, such as report.html\n"


def test_eval_keeps_quiet(prlm, write_jsonl):
    assert prlm("eval", write_jsonl(ROWS), "-q").stderr == ""


def test_eval_shows_control_characters_of_a_policy_name_as_escapes(prlm, write_jsonl):
    result = prlm("eval", write_jsonl([generation("q1", "u1", "a", policy="\x1b[31mred")]))

    assert "policy \\x1b[31mred;" in result.stderr


def test_eval_retrieval_prints_a_row_a_measure_and_retriever(prlm, workspace, golden):
    result = prlm("eval", "--retrieval", "-w", workspace)

    assert (result.exit_code, result.stderr) == (0, "prlm: 3 queries of 3 users, at most 4 records each\n")
    assert max(map(len, result.stdout.splitlines())) <= 100
    golden("eval-retrieval.txt", result.stdout)


def test_eval_retrieval_takes_the_split_and_the_settings_of_retrieval(prlm, workspace):
    arguments = ["--split", "train", "--retriever", "random", "-k", "2", "--json"]
    found = json.loads(prlm("eval", "--retrieval", "-w", workspace, *arguments).stdout)

    assert (found["n"], found["users"], found["k"], found["without_target"]) == (6, 3, 2, 0)
    assert [row["retriever"] for row in found["retrievers"]] == ["random", "recency", "wrong user"]
    assert found["retrievers"][0]["chosen_minus"] is None
    assert list(found["retrievers"][1]["chosen_minus"]) == MEASURES
    assert list(found["retrievers"][0]["overlap"]["best_rougeL"]) == ["mean", "low", "high", "n", "users"]


def test_eval_retrieval_draws_as_seed_and_settings_say(prlm, write_jsonl):
    shown = [{"doc_id": "d", "text": "t", "title": " ".join(["leak"] * n)} for n in range(1, 31)]
    data = write_jsonl([RETRIEVED | {"user_id": f"u{n}", "profile": [title]} for n, title in enumerate(shown)])
    default, again, seed, few = (
        prlm("eval", "--retrieval", data, *more).stdout
        for more in ([], ["--seed", "0"], ["--seed", "1"], ["--set", "eval.bootstrap=100"])
    )

    assert default == again
    assert default != seed != few != default


def test_eval_retrieval_of_queries_and_of_their_retrieved_records_say_the_same(prlm, workspace, write_jsonl):
    lines = (workspace.parent / "tiny_corpus.jsonl").read_text().splitlines()
    queries = write_jsonl([row for row in map(json.loads, lines) if row.get("split") == "dev"], "dev.jsonl")
    retrieved = prlm("retrieve", queries, "-k", "2", "-w", workspace).stdout

    from_file = prlm("eval", "--retrieval", queries, "-k", "2", "-w", workspace)
    from_pipe = prlm("eval", "--retrieval", "-", "-w", workspace, input=retrieved)

    assert from_file.exit_code == 0
    assert from_pipe == from_file == prlm("eval", "--retrieval", "--split", "dev", "-k", "2", "-w", workspace)


def test_eval_retrieval_needs_no_index_for_retrieved_records(prlm, write_jsonl):
    shown = {"doc_id": "d", "text": "t", "title": "a leak"}
    rows = [RETRIEVED | {"profile": [shown]}, RETRIEVED | {"query_id": "q2", "user_id": "u2"}]
    result = prlm("eval", "--retrieval", write_jsonl([*rows, RETRIEVED | {"query_id": "q3", "target": None}]))

    assert result.exit_code == 0
    assert [line.split()[:4] for line in result.stdout.splitlines()[1:]] == [
        ["bm25", *measure.split("_"), "0.4000"] for measure in MEASURES
    ]
    assert result.stderr.splitlines() == [
        "prlm: no index to retrieve from: nothing to hold these records against",
        "prlm: 2 queries of 2 users, at most 1 records each; left out 1 queries without a target",
        "prlm: bm25: no records for 1 queries, which score 0",
    ]


def test_eval_retrieval_writes_a_record_per_query_and_retriever(prlm, workspace, tmp_path):
    scores = tmp_path / "scores.jsonl"
    written = prlm("eval", "--retrieval", "-w", workspace, "--per-query", scores)
    printed = prlm("eval", "--retrieval", "-w", workspace, "--per-query", "-")

    assert written.stderr.splitlines()[-1] == f"prlm: 12 records in {scores}"
    assert scores.read_text() == printed.stdout
    first, *_, last = printed.records
    assert list(first) == ["query_id", "user_id", "retriever", "records", *MEASURES]
    assert (last["retriever"], last["user_id"] == last["profile_user_id"]) == ("wrong user", False)


def test_eval_retrieval_shows_no_users_text(prlm, workspace):
    texts = [json.loads(line) for line in (workspace.parent / "tiny_corpus.jsonl").read_text().splitlines()]
    outputs = [prlm("eval", "--retrieval", "-w", workspace, *more) for more in ([], ["--json"], ["--per-query", "-"])]

    for row in texts:
        for text in (row["text"], row.get("title") or row["target"]):
            assert not any(text in stream for result in outputs for stream in (result.stdout, result.stderr))


def test_eval_retrieval_changes_no_file(prlm, workspace):
    before = contents(workspace)
    prlm("eval", "--retrieval", "-w", workspace)

    assert contents(workspace) == before


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--retrieval", "--metrics", "rougeL"], "--metrics does not go with --retrieval; leave one of the two out"),
        (["--retrieval", "-k", "0"], "retrieval.k is 0: nothing is retrieved; ask for at least one record, -k 1"),
        (["--retrieval", "--retriever", "none"], "retriever 'none' retrieves nothing; choose another with --retriever"),
        (["--retrieval", "--split", "tests"], "no tests queries in the index; name a file of queries, or another"),
        (["--retrieval", "-w", "nowhere"], "no index in nowhere; run `prlm index DATA` first"),
        (
            ["x.jsonl", "-k", "3", "--split", "dev"],
            "--split, retrieval.k given with generations, which hold their records",
        ),
    ],
    ids=["metrics", "k", "none", "split", "no-index", "without"],
)
def test_eval_retrieval_refuses_in_one_line(prlm, workspace, arguments, message):
    result = prlm("eval", "-w", workspace, *arguments)

    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert result.stderr.startswith(f"prlm: {message}")


@pytest.mark.parametrize(
    "rows, message",
    [
        ([RETRIEVED | {"text": None}], "{data}:1: field 'text'"),
        ([RETRIEVED, {"user_id": "u1", "text": SECRET}], "{data}:2: no field 'query_id'"),
        (
            [RETRIEVED, RETRIEVED | {"retriever": "dense"}],
            "query q1: records of retriever 'dense' after those of 'bm25'",
        ),
        ([RETRIEVED | {"target": None}], "none of 1 queries has a target"),
        ([], "no queries to evaluate"),
    ],
    ids=["type", "document", "two-retrievers", "no-target", "empty"],
)
def test_eval_retrieval_refuses_records_in_one_line(prlm, workspace, write_jsonl, rows, message):
    data = write_jsonl(rows, "retrieved.jsonl")

    result = prlm("eval", "--retrieval", data, "-w", workspace)

    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert result.stderr.startswith("prlm: " + message.format(data=data))
    assert SECRET not in result.stderr


def test_eval_preset_lamp_prints_what_the_leaderboard_does(prlm, write_jsonl, tmp_path):
    rows = [generation(f"q{n}", f"u{n}", answer, meta={"task": "LaMP_3"}, target="4") for n, answer in enumerate("45x")]
    result = prlm("eval", write_jsonl(rows), "--preset", "lamp", "--submission", tmp_path / "out")

    assert [line.split()[:2] for line in result.stdout.splitlines()[1:]] == [["mae", "1.3333"], ["rmse", "1.8257"]]
    assert json.loads((tmp_path / "out" / "LaMP_3.json").read_text()) == {
        "task": "LaMP_3",
        "golds": [{"id": "q0", "output": "4"}, {"id": "q1", "output": "5"}, {"id": "q2", "output": "x"}],
    }


def test_eval_preset_lamp_gives_way_to_metrics_that_are_named(prlm, write_jsonl):
    result = prlm("eval", write_jsonl(ROWS), "--preset", "lamp", "--metrics", "length", "--json")

    assert list(json.loads(result.stdout)["metrics"]) == ["length"]


def test_eval_submission_of_what_is_no_lamp_task_is_refused(prlm, write_jsonl, tmp_path):
    result = prlm("eval", write_jsonl(ROWS), "--submission", tmp_path / "out")

    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert result.stderr.startswith("prlm: query 'q1' is of no task of LaMP; its meta.task must be")
    assert not (tmp_path / "out").exists()
