from __future__ import annotations

import json
import subprocess

import pytest

from prlm_cli.core import jsonl
from prlm_cli.core.records import Document, Query


@pytest.fixture
def lamp(tmp_path):
    """A folder of LaMP: two splits of one user whose history comes back."""
    items = [{"id": f"p{n}", "text": f"text {n}", "title": f"title {n}", "date": f"2020-0{n}-01"} for n in (1, 2)]
    folder = tmp_path / "LaMP_4"
    for split in ("train", "dev"):
        (folder / split).mkdir(parents=True)
        question = {"id": split, "input": f"Name this article: {split}", "profile": items, "user_id": "u"}
        (folder / split / f"{split}_questions.json").write_text(json.dumps([question]))
        golds = {"task": "LaMP_4", "golds": [{"id": split, "output": f"gold {split}"}]}
        (folder / split / f"{split}_outputs.json").write_text(json.dumps(golds))
    return folder


@pytest.fixture
def mails(tmp_path):
    path = tmp_path / "mails.csv"
    path.write_text('sender,subject,body,lang\nu1,Hello,"How are\nyou?",en\nu2,,Short,\nu3,No body,,\nu4,a,b,c,d\n')
    return path


@pytest.fixture
def repository(tmp_path):
    path = tmp_path / "repo"
    stream = b"".join(
        b"commit refs/heads/main\ncommitter Ada <ada@example.org> %d +0000\ndata %d\n%s\n" % (n, len(text), text)
        for n, text in enumerate([b"one\n\nSigned-off-by: Ada <ada@example.org>", b"two\n\nwith a body of its own"])
    )
    subprocess.run(["git", "init", "-q", "-b", "main", path], check=True)
    subprocess.run(["git", "-C", path, "fast-import", "--quiet"], input=stream, check=True)
    return path


MAP = ("--map", "user_id=sender,title=subject,text=body")


def test_lamp_gives_the_records_of_all_splits_and_each_document_once(prlm, lamp):
    result = prlm("import", "lamp", lamp)
    documents = [r for r in result.records if "query_id" not in r]
    queries = [r for r in result.records if "query_id" in r]

    assert [d["doc_id"] for d in documents] == ["p1", "p2"]
    assert [(q["query_id"], q["text"], q["target"], q["split"], q["doc_ids"]) for q in queries] == [
        ("dev", "dev", "gold dev", "dev", ["p1", "p2"]),
        ("train", "train", "gold train", "train", ["p1", "p2"]),
    ]
    assert (result.exit_code, result.stderr.splitlines()) == (
        0,
        ["prlm: split by time: questions name their users", "prlm: 2 documents, 2 queries"],
    )


def test_what_was_imported_can_be_indexed_and_retrieved(prlm, lamp):
    records = prlm("import", "lamp", lamp, "-q").stdout
    prlm("index", "-", "-q", input=records)
    (query,) = prlm("retrieve", "--split", "dev").records

    assert query["doc_ids"] == ["p1", "p2"] and [d["doc_id"] for d in query["profile"]] == ["p2", "p1"]


def test_outputs_may_be_named_for_one_file_of_questions(prlm, lamp):
    outputs = (lamp / "dev/dev_outputs.json").rename(lamp / "gold.json")
    questions = lamp / "dev/dev_questions.json"

    assert "target" not in prlm("import", "lamp", questions).records[-1]
    assert prlm("import", "lamp", questions, outputs).records[-1]["target"] == "gold dev"
    assert prlm("import", "lamp", lamp, outputs).stderr.startswith(f"prlm: {lamp} holds 2 files of questions; name one")


def test_what_is_no_lamp_says_so(prlm, mails, tmp_path):
    (tmp_path / "data.jsonl").write_text('{"user_id": "u", "text": "t"}\n')

    for given in (mails, tmp_path / "data.jsonl"):
        result = prlm("import", "lamp", given)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.startswith(f"prlm: {given}: no questions of LaMP") and result.stderr.count("\n") == 1


def test_csv_maps_columns_and_counts_what_it_dropped_with_reason_and_place(prlm, mails):
    result = prlm("import", "csv", mails, *MAP)

    assert result.records == [
        {"user_id": "u1", "doc_id": result.records[0]["doc_id"], "text": "How are\nyou?", "title": "Hello"}
        | {"meta": {"lang": "en"}},
        {"user_id": "u2", "doc_id": result.records[1]["doc_id"], "text": "Short"},
    ]
    assert (result.exit_code, result.stderr.splitlines()) == (
        0,
        [
            "prlm: 2 documents, 0 queries",
            f"prlm: dropped 1: no field 'text' (first: {mails}:5)",
            f"prlm: dropped 1: 5 cells, but the header has 4 (first: {mails}:6)",
        ],
    )


def test_where_nothing_can_be_used_the_first_reason_is_the_error(prlm, mails):
    result = prlm("import", "csv", mails, "--map", "text=bdy")

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.splitlines() == [
        f"prlm: {mails}:2: no column 'bdy' for 'text'; check --map against the columns"
    ]


def test_a_date_that_is_none_is_dropped(prlm, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("user_id,text,date\nu,a,17.5.2024\nu,b,2024-05-17\n")
    result = prlm("import", "csv", path)

    assert [record["text"] for record in result.records] == ["b"]
    assert f"prlm: dropped 1: field 'date' is not a date (first: {path}:2)" in result.stderr.splitlines()


def test_only_the_most_frequent_reasons_are_listed(prlm, tmp_path):
    path = tmp_path / "a.csv"
    rows = ["u" + ",x" * n for n in range(2, 10) for _ in range(n)]
    path.write_text("user_id,text\nu,fine\n" + "\n".join(rows))
    lines = prlm("import", "csv", path).stderr.splitlines()

    assert [line.split(":")[1].split()[1] for line in lines[1:6]] == ["9", "8", "7", "6", "5"]
    assert lines[6:] == ["prlm: dropped 9 more, for 3 other reasons"]


def test_csv_is_read_from_standard_input(prlm):
    result = prlm("import", "csv", "-", input="user_id;text\n007;a\n")

    assert [(record["user_id"], record["text"]) for record in result.records] == [("007", "a")]


def test_git_gives_commits_without_their_authors(prlm, repository):
    result = prlm("import", "git", repository)
    (record,) = result.records

    assert (record["title"], record["text"]) == ("two", "with a body of its own")
    assert "ada" not in result.stdout.lower()
    assert result.stderr.splitlines()[0] == "prlm: 1 documents, 0 queries"
    assert result.stderr.splitlines()[1].startswith("prlm: dropped 1: too short a body (first: commit ")


@pytest.mark.parametrize(("args", "count"), [(["--min-body", 6], 1), (["--min-body", 7], 0), (["--max", 1], 1)])
def test_git_has_limits(prlm, repository, args, count):
    assert len(prlm("import", "git", repository, *args).records) == count


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["git", "none"], "none: no such folder; name the folder of a git repository"),
        (["csv", "none.csv"], "none.csv: no such file"),
        (["lamp", "none.json"], "none.json: no such file"),
        (["csv", "none.csv", "--map", "txt=a"], "--map txt=a: no field 'txt'; did you mean text?"),
        (["lmap", "x"], "No such command 'lmap'"),
        ([], "Missing command"),
    ],
    ids=" ".join,
)
def test_what_is_wrong_is_one_line_and_exit_2(prlm, args, message):
    result = prlm("import", *args)

    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


def test_records_go_to_a_file_which_only_force_replaces(prlm, mails, tmp_path):
    out = tmp_path / "out.jsonl"
    first = prlm("import", "csv", mails, *MAP, "-o", out)

    assert (first.exit_code, first.stdout) == (0, "")
    assert first.stderr.splitlines()[:2] == [f"prlm: 2 records in {out}", "prlm: 2 documents, 0 queries"]
    assert prlm("import", "csv", mails, *MAP, "-o", out).stderr == f"prlm: {out} exists; use --force to replace it\n"
    assert prlm("import", "csv", mails, *MAP, "-o", out, "--force", "-q") == (0, "", "")
    assert len(list(jsonl.read(out, Document))) == 2


def test_as_json_the_records_are_one_list(prlm, lamp):
    result = prlm("import", "lamp", lamp, "--json", "-q")

    assert len([Query(**record) for record in json.loads(result.stdout) if "query_id" in record]) == 2
    assert result.stderr == ""
