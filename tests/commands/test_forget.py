from __future__ import annotations

import io
import json

import pytest
import typer

from prlm_cli.core import connection as module
from prlm_cli.core.workspace import Run, Workspace
from prlm_cli.pipeline.training_set import user_hash
from tests.conftest import contents

_OUT_OF_REACH = "prlm: out of reach: backups, files written elsewhere with -o, adapters copied out of the workspace"


class Terminal(io.TextIOWrapper):
    def isatty(self):
        return True


@pytest.fixture
def place(workspace, prlm):
    """The workspace with a run, and a file of retrieved records."""
    Run(Workspace(workspace).runs_folder / "policy-1").start("policy", "", trained_on=[user_hash("ada")])
    prlm("retrieve", "-w", workspace, "-o", workspace / "retrieved.jsonl")
    return workspace


def _rows(stdout):
    return [" ".join(line.split()) for line in stdout.splitlines()]


def test_forget_says_what_went_and_names_the_runs_that_learned_from_it(prlm, place):
    result = prlm("forget", "--user", "ada", "--yes", "-w", place)

    assert result.exit_code == 0
    assert _rows(result.stdout) == [
        "user ada gone",
        "documents 8",
        "queries 4",
        "lines of retrieved.jsonl",
        "",
        "trained on it, and not undone",
        "policy-1",
    ]
    notes = result.stderr.splitlines()
    assert notes[0] == "prlm: writing the index anew"
    assert notes[1].startswith("prlm: searched 0.") and notes[1].endswith(" s: no trace")
    assert notes[2:] == [_OUT_OF_REACH]
    assert prlm("show", "ada", "-w", place).exit_code == 2
    assert [record["user_id"] for record in prlm("retrieve", "-w", place).records] == ["ben", "cem"]


def test_forget_as_json(prlm, place):
    result = prlm("forget", "--user", "ada", "-y", "--json", "-q", "-w", place)
    found = json.loads(result.stdout)

    assert (result.exit_code, result.stderr) == (0, "")
    seconds = {name: found.pop(name) for name in list(found) if name.endswith("_seconds")}
    assert seconds["erase_seconds"] > 0 and len(seconds) == 3
    assert found.pop("scanned_bytes") > 0
    assert found == {
        "user_id": "ada",
        "doc_id": None,
        "dry_run": False,
        "documents": 8,
        "queries": 4,
        "rewritten": ["retrieved.jsonl"],
        "removed": [],
        "runs": ["policy-1"],
    }


@pytest.mark.parametrize("args", [["--doc", "ada/d8"], ["--user", "ada", "--doc", "d8"]], ids=["one", "apart"])
def test_forget_of_a_document(prlm, place, args):
    result = prlm("forget", *args, "--yes", "-w", place)

    assert result.exit_code == 0
    assert _rows(result.stdout)[:3] == ["document d8 of user ada gone", "documents 1", "queries 0"]
    shown = json.loads(prlm("show", "ada", "-w", place, "--json").stdout)
    assert [document["doc_id"] for document in shown["documents"]] == [f"d{n}" for n in range(7, 0, -1)]


def test_a_dry_run_prints_what_would_go_and_changes_nothing(prlm, place):
    before = contents(place)
    result = prlm("forget", "--user", "ada", "--dry-run", "-w", place)

    assert (result.exit_code, result.stderr) == (0, "")
    assert _rows(result.stdout)[:4] == [
        "user ada would go",
        "documents 8",
        "queries 4",
        "lines of retrieved.jsonl",
    ]
    assert contents(place) == before


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "nobody is named; --user USER, or --doc USER/ID"),
        (["--user", "ada"], "user ada is not forgotten unasked; add --yes"),
        (["--doc", "ada/d8"], "document d8 of user ada is not forgotten unasked; add --yes"),
        (["--doc", "ada/d9", "--yes"], "no document 'ada/d9' in the index; name it USER/DOCUMENT"),
        (["--user", "adb", "--yes"], "no user 'adb' in the index; nor in a file of the workspace"),
        (["--user", "adb", "--dry-run"], "no user 'adb' in the index; nor in a file of the workspace"),
        (
            ["--user", "ada", "--doc", "d9", "--yes"],
            "no document 'd9' of user 'ada' in the index; nor in a file of the workspace",
        ),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_2(prlm, place, args, message):
    before = contents(place)
    result = prlm("forget", *args, "-w", place)

    assert result == (2, "", f"prlm: {message}\n")
    assert contents(place).items() >= {(k, v) for k, v in before.items() if k != ".index.lock"}


def test_without_an_index_it_is_exit_2(prlm, tmp_path):
    assert prlm("forget", "--user", "ada", "--yes", "-w", tmp_path / "none").exit_code == 2
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(("answer", "code"), [(True, 0), (False, 1)], ids=["yes", "no"])
def test_forget_asks_on_a_terminal(prlm, place, monkeypatch, answer, code):
    asked = []
    monkeypatch.setattr(io, "TextIOWrapper", Terminal)  # of which the fixture makes the standard input
    monkeypatch.setattr(typer, "confirm", lambda text, err: asked.append((text, err)) or answer)

    result = prlm("forget", "--user", "ada", "-w", place)

    assert result.exit_code == code
    assert asked == [("Forget user ada: 8 documents, 4 queries?", True)]
    assert (prlm("show", "ada", "-w", place).exit_code == 0) is not answer


def test_a_reader_that_goes_on_is_exit_5_and_the_same_again_completes_it(prlm, place, monkeypatch):
    monkeypatch.setattr(module, "_LOCK_TIMEOUT", 0.1)
    with Workspace(place).open_store() as reader, reader.snapshot():
        reader.count()
        held_up = prlm("forget", "--user", "ada", "--yes", "-w", place)
    again = prlm("forget", "--user", "ada", "--yes", "-w", place)

    assert (held_up.exit_code, held_up.stdout) == (5, "")
    assert held_up.stderr.startswith("prlm: ") and "not yet erased; run it again" in held_up.stderr
    assert again.exit_code == 0
    assert _rows(again.stdout)[:3] == ["user ada gone", "documents 8", "queries 4"]


def test_what_still_holds_it_is_exit_5(prlm, place):
    text = json.loads(prlm("show", "ada", "-w", place, "--json").stdout)["documents"][0]["text"]
    (place / "note.txt").write_text(text)

    result = prlm("forget", "--user", "ada", "--yes", "-w", place)

    assert (result.exit_code, result.stdout) == (5, "")
    assert "not yet erased from note.txt; remove what still holds it and run it again" in result.stderr
    assert text not in result.stderr
