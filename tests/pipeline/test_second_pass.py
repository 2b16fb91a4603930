from __future__ import annotations

import io
import sys
from pathlib import Path

import msgspec
import pytest

from prlm_cli.core import jsonl
from prlm_cli.core.errors import DataError
from prlm_cli.pipeline.second_pass import Generations
from tests.pipeline.generations import document, generation

RECORDS = [generation(n, profile=[document("x", m) for m in range(n % 3)], answer=f"answer {n}") for n in range(8)]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "generations.jsonl"
    jsonl.write(path, RECORDS)
    return path


@pytest.fixture
def stdin(file, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(file.read_bytes())))
    return Path("-")


@pytest.fixture(params=["file", "stdin"])
def source(request):
    return Generations(request.getfixturevalue(request.param))


def test_generations_come_in_order_and_single_ones_again(source):
    assert list(source) == RECORDS
    assert list(source.record_counts) == [0, 1, 2, 0, 1, 2, 0, 1]
    assert source.at({6: "q6", 1: "q1"}) == {6: RECORDS[6], 1: RECORDS[1]}
    assert source.at({0: "q0"}) == {0: RECORDS[0]}
    assert source.at({}) == {}


def test_joined_files_are_read_one_after_the_other(file, tmp_path):
    jsonl.write(tmp_path / "more.jsonl", RECORDS[:3])
    source = Generations(Path(f"{file},{tmp_path / 'more.jsonl'}"))

    assert list(source) == RECORDS + RECORDS[:3]
    assert source.at({9: "q1"}) == {9: RECORDS[1]}


@pytest.mark.parametrize("left", [RECORDS[:2], list(reversed(RECORDS))], ids=["shorter", "another-order"])
def test_a_file_that_changes_between_the_passes_is_refused(file, left):
    source = Generations(file)
    assert list(source) == RECORDS
    jsonl.write(file, left, force=True)

    with pytest.raises(DataError, match=r"generations\.jsonl changed while it was read; run it again"):
        source.at({1: "q1", 5: "q5"})


def test_standard_input_is_kept_in_no_file_that_has_a_name(stdin, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = sorted(tmp_path.iterdir())
    source = Generations(stdin)

    assert list(source) == RECORDS
    assert sorted(tmp_path.iterdir()) == before


def test_standard_input_is_not_kept_where_nothing_is_read_again(stdin, monkeypatch):
    monkeypatch.setattr("prlm_cli.pipeline.second_pass.TemporaryFile", lambda: pytest.fail("kept"))

    assert list(Generations(stdin, rereads=False)) == RECORDS


def test_records_with_fields_of_their_own_come_again_as_they_were(tmp_path):
    path = tmp_path / "more.jsonl"
    path.write_bytes(msgspec.json.encode({**msgspec.to_builtins(RECORDS[0]), "extra": 1}) + b"\n")
    source = Generations(path)
    (first,) = source

    assert source.at({0: "q0"}) == {0: first}
    assert first.meta == {"extra": 1}
