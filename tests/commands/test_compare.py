import json

import pytest

TARGET = "fix a leak"


def generations(answers):
    fields = {"text": "t", "target": TARGET, "profile": [], "retriever": "bm25"}
    made = {"reasoning": None, "policy": "p", "seed": 0}
    return [
        {"query_id": f"q{n}", "user_id": f"u{n}", **fields, **made, "completion": str(answer), "answer": answer}
        for n, answer in enumerate(answers)
    ]


@pytest.fixture
def better(write_jsonl):
    return write_jsonl(generations([TARGET] * 12), "better.jsonl")


@pytest.fixture
def worse(write_jsonl):
    return write_jsonl(generations([None] * 10 + [TARGET] * 2), "worse.jsonl")


def test_compare_prints_what_differs_and_what_it_is_worth_to_users(prlm, golden, better, worse):
    result = prlm("compare", better, worse, "--metric", "exact_match", "--metric", "length", "--by", "user")

    assert (result.exit_code, result.stderr) == (0, "")
    golden("compare.txt", result.stdout)


def test_compare_prints_json(prlm, better, worse):
    result = prlm("compare", better, worse, "--json")
    (comparison,) = json.loads(result.stdout)

    assert (comparison["a"], comparison["b"], comparison["metric"]) == (str(better), str(worse), "rougeL")
    assert comparison["difference"]["low"] > 0.5
    assert comparison["by_query"] == {"win": 10, "tie": 2, "loss": 0}
    assert (comparison["harm"]["mean"], comparison["p_holm"]) == (0.0, comparison["p"])
    assert "users" not in comparison


def test_compare_by_user_adds_the_users_to_the_json(prlm, better, worse):
    result = prlm("compare", better, worse, "--metric", "exact_match", "--by", "user", "--json")
    users = json.loads(result.stdout)[0]["users"]

    assert users[0] == {"user_id": "u0", "a": 1.0, "b": 0.0, "difference": 1.0, "queries": 1}
    assert [user["difference"] for user in users] == [1.0] * 10 + [0.0] * 2


def test_compare_of_one_user_prints_no_figure_that_needs_more(prlm, write_jsonl):
    alone = write_jsonl(generations([TARGET]), "alone.jsonl")

    result = prlm("compare", alone, alone)

    users = result.stdout.splitlines()[-1].split()
    assert result.exit_code == 0
    assert users[:4] == ["rougeL", "1", "0/1/0", "n/a"]
    assert users[-1] == "n/a"


def test_compare_pools_seeds_and_says_so(prlm, better, worse, write_jsonl):
    again = [{**record, "seed": 1, "policy": "p1"} for record in generations([TARGET] * 6 + [None] * 6)]
    pooled = f"{better},{write_jsonl(again, 'again.jsonl')}"

    result = prlm("compare", pooled, worse, "--metric", "exact_match")

    assert result.exit_code == 0
    assert result.stdout.splitlines()[1].split()[:4] == ["exact_match", "0.7500", "0.1667", "+0.5833"]
    assert result.stderr == (
        f"prlm: {pooled}: 24 generations of 12 queries by p, p1; the seeds of a query are averaged\n"
    )


def test_compare_prints_the_same_table_in_markdown(prlm, better, worse):
    result = prlm("compare", better, worse, better, "--metric", "exact_match", "--md")

    header, _, first, second, gap, users = result.stdout.splitlines()[:6]
    assert header == "| metric | A | B | A - B | 95 % interval | p | p (Holm) | win/tie/loss | n |"
    assert (gap, users[:27]) == ("", "| metric | users | by user ")
    assert first.startswith(f"| exact_match {worse} | 1.0000 | 0.1667 | +0.8333 | [")
    assert second.startswith(f"| exact_match {better} | 1.0000 | 1.0000 | +0.0000 | [")


def test_compare_refuses_two_forms_of_the_table(prlm, better, worse):
    assert prlm("compare", better, worse, "--md", "--json").stderr.startswith(
        "prlm: --json and --md do not go together"
    )


@pytest.mark.parametrize("stdin", ["neither", "a", "b"])
def test_compare_writes_a_report_of_the_same_figures_from_files_and_from_standard_input(
    prlm, better, worse, tmp_path, stdin
):
    page = tmp_path / "report.html"
    names = ["-" if stdin == "a" else better, "-" if stdin == "b" else worse]
    given = {"a": {"input": better.read_text()}, "b": {"input": worse.read_text()}}.get(stdin, {})

    result = prlm("compare", *names, "--metric", "exact_match", "--report", page, **given)

    assert (result.exit_code, result.stderr) == (0, f"prlm: report in {page}\n")
    html = page.read_text()
    assert {cell in html for cell in ("+0.8333", "10/2/0")} == {True}
    assert html.count('data-outcome="win"') == 10


def test_compare_writes_its_report_even_where_a_requirement_is_not_met(prlm, better, worse, tmp_path):
    page = tmp_path / "report.html"

    result = prlm("compare", worse, better, "--require", "rougeL>=0", "--report", page)

    assert (result.exit_code, page.exists()) == (1, True)


def test_compare_replaces_a_report_by_force_only(prlm, better, worse, tmp_path):
    page = tmp_path / "report.html"
    page.write_text("mine")

    refused, forced = (prlm("compare", better, worse, "--report", page, *more) for more in ([], ["--force"]))

    assert (refused.exit_code, refused.stderr) == (2, f"prlm: {page} exists; use --force to replace it\n")
    assert forced.exit_code == 0


def test_compare_holds_one_file_against_several(prlm, better, worse):
    result = prlm("compare", better, worse, better, "--json")

    assert [c["difference"]["mean"] > 0 for c in json.loads(result.stdout)] == [True, False]
    assert f"rougeL {worse}" in prlm("compare", better, worse, better).stdout


def test_compare_reads_standard_input(prlm, better, worse):
    result = prlm("compare", "-", worse, "--json", input=better.read_text())

    assert result.exit_code == 0
    assert json.loads(result.stdout)[0]["mean_a"] == 1.0


def test_compare_says_what_was_left_out(prlm, better, write_jsonl):
    fewer = write_jsonl(generations([TARGET] * 3), "fewer.jsonl")

    result = prlm("compare", better, fewer)

    assert result.exit_code == 0
    assert result.stderr == f"prlm: {fewer}: left out 9 queries that only A holds and 0 that only B holds\n"


def test_compare_exits_1_where_a_requirement_is_not_met(prlm, better, worse):
    met = prlm("compare", better, worse, "--require", "rougeL>=+0.01", "--require", "extract_fail<=-0.1")
    missed = prlm("compare", worse, better, "--require", "rougeL>=+0.01")

    assert (met.exit_code, met.stderr) == (0, "")
    assert missed.exit_code == 1
    assert missed.stdout.startswith("metric")
    assert missed.stderr.startswith("prlm: rougeL>=+0.01 is not met: A - B is -0.8333, its 95 % interval [-1.0000, ")


def test_compare_requires_a_metric_of_every_file(prlm, better, worse):
    result = prlm("compare", better, worse, better, "--require", "rouge1>=+0.01")

    assert result.exit_code == 1


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["{better}"], "Missing argument 'B'. Try `prlm compare --help`."),
        (["-", "-"], "standard input is named twice; write one of the two to a file"),
        (["{better}", "{better}", "--metric", "rogueL"], "no metric 'rogueL'; did you mean rougeL?"),
        (["{better}", "{better}", "--require", "rougeL"], "requirement 'rougeL': not METRIC>=NUMBER"),
        (["{better}", "nowhere.jsonl"], "nowhere.jsonl: no such file"),
        (["{better},nowhere.jsonl", "{better}"], "nowhere.jsonl: no such file"),
        (
            ["{better},{better}", "{better}"],
            "A holds query 'q0' twice with seed 0; give one generation a query and seed",
        ),
        (["{better}", "{better}", "--by", "query"], "Invalid value for '--by'"),
    ],
    ids=["one-file", "stdin-twice", "metric", "requirement", "no-file", "no-part", "same-seed", "by"],
)
def test_compare_refuses_in_one_line(prlm, better, arguments, message):
    result = prlm("compare", *(argument.format(better=better) for argument in arguments))

    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert result.stderr.startswith("prlm: " + message)
