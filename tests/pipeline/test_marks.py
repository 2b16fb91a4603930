from __future__ import annotations

import json
import os
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prlm_cli.core.records import Document
from prlm_cli.pipeline import marks
from prlm_cli.pipeline.marks import marks_of, quoted, spellings, union

_TEXT = b"The gannet hit the lantern room at dawn, and the relay stuck open once more before breakfast."


def _file(tmp_path, content):
    path = tmp_path / "file"
    path.write_bytes(content)
    return path


@pytest.fixture(params=[2**21, 64], ids=["one block", "many blocks"])
def _blocks(request, monkeypatch):
    monkeypatch.setattr(marks, "_BLOCK", request.param)
    monkeypatch.setattr(marks, "_CHUNK", 5)


@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize("before", range(0, 90, 7))
@pytest.mark.parametrize("start", [0, 5, 62])
def test_31_bytes_of_a_text_are_found_in_a_file_wherever_they_stand(tmp_path, before, start):
    wanted = marks_of([_TEXT])
    content = os.urandom(before) + _TEXT[start : start + 31] + os.urandom(40)

    assert wanted.found_in_file(_file(tmp_path, content))


@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize("before", range(0, 90, 7))
@pytest.mark.parametrize("length", [24, 39])
def test_39_bytes_hold_neighbours_and_24_never_do(tmp_path, before, length):
    content = os.urandom(before) + _TEXT[3 : 3 + length] + os.urandom(40)

    assert marks_of([_TEXT]).have_neighbours_in(_file(tmp_path, content)) == (length == 39)


@pytest.mark.parametrize("length", [0, 7, 23, 100])
def test_nothing_is_found_in_other_bytes(tmp_path, length):
    wanted = marks_of([_TEXT])
    content = random.Random(length).randbytes(length)

    assert not wanted.found_in(content)
    assert not wanted.found_in_file(_file(tmp_path, content))
    assert not wanted.have_neighbours_in(_file(tmp_path, content))


def test_no_marks_find_nothing(tmp_path):
    wanted = marks_of([])

    assert not wanted
    assert not wanted.found_in(_TEXT)
    assert not wanted.found_in_file(_file(tmp_path, _TEXT))


@pytest.mark.parametrize("pattern", [b"-", b" ", b"=-", b"\0", b"12345678"])
def test_a_pattern_that_is_repeated_is_no_mark(pattern):
    assert not marks_of([pattern * 40])


def test_a_part_that_both_texts_have_is_found_in_both_and_can_be_taken_away():
    mine, other = _TEXT + b" I was asleep in the tower and saw none of it.", _TEXT + b" Nobody was there."
    common = marks_of([mine]).found_in(other)

    assert common
    assert not (common - marks_of([other]))
    assert (marks_of([mine]) - common).found_in(mine)
    assert not (marks_of([mine]) - common).found_in(other)


@pytest.mark.usefixtures("_blocks")
def test_short_strings_are_found_across_blocks(tmp_path):
    wanted = marks_of([], [b"user-1", b"user-2"])

    for before in range(50, 70):
        path = _file(tmp_path, b"x" * before + b"user-1" + b"y" * 20)
        assert wanted.found_in_file(path).strings == {b"user-1"}
        assert wanted.have_neighbours_in(path)
    assert wanted.found_in(b"no user-2").strings == {b"user-2"}


def test_of_too_many_marks_an_even_sample_is_kept_that_still_finds_every_text(tmp_path, monkeypatch):
    monkeypatch.setattr(marks, "MAX_MARKS", 2000)
    texts = [random.Random(n).randbytes(600) for n in range(20)]
    wanted = marks_of(texts)

    assert len(wanted.hashes) == 2000
    assert all(len(wanted.found_in_file(_file(tmp_path, b"abc" + text)).hashes) > 2 for text in texts)
    assert len(union([wanted, marks_of([_TEXT])]).hashes) == 2000


@settings(max_examples=50)
@given(st.lists(st.binary(max_size=80), max_size=5), st.binary(max_size=200))
def test_what_is_found_is_what_stands_there(texts, data):
    parts = {text[n : n + 24] for text in texts for n in range(len(text) - 23)}
    there = {part for part in parts if part in data and not _is_a_pattern(part)}

    assert len(marks_of(texts).found_in(data).hashes) == len(there)


def _is_a_pattern(part):
    return part[:8] * 3 == part


def test_a_record_is_spelled_as_it_is_and_as_json():
    document = Document(user_id="u", doc_id="d", text='a "quoted" é', meta={"tags": ["x", {"y": "z"}], "n": 3})

    assert spellings(document, without=("user_id",)) == {
        'd a "quoted" é x z'.encode(),
        'd a \\"quoted\\" é x z'.encode(),
        b'd a \\"quoted\\" \\u00e9 x z',
    }
    assert spellings("plain") == {b"plain"}


@given(st.text())
def test_both_ways_to_write_a_text_as_json_are_known(text):
    assert quoted(text) == {json.dumps(text, ensure_ascii=is_ascii)[1:-1].encode() for is_ascii in (True, False)}
