from __future__ import annotations

import csv as stdlib
import gzip
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prlm_cli.core import jsonl
from prlm_cli.core.errors import DataError
from prlm_cli.formats import csv


@pytest.fixture
def write(tmp_path):
    def to_file(content, name="data.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return to_file


def _fields(path, on_fault=None):
    return [line.fields for line in csv.read(path, on_fault)]


def test_ids_that_look_like_numbers_stay_as_they_are_written(write):
    path = write("user_id,doc_id,text\n007,1e5,t\n+1, 2 ,12\n")

    assert _fields(path) == [
        {"user_id": "007", "doc_id": "1e5", "text": "t"},
        {"user_id": "+1", "doc_id": " 2 ", "text": "12"},
    ]


def test_an_empty_cell_is_not_given_and_a_blank_row_is_passed_over(write):
    path = write('user_id,title,text,query_id\nu,,"t",""\n\n,,,\nu,t,x,q\n')
    lines = list(csv.read(path))

    assert [line.fields for line in lines] == [
        {"user_id": "u", "text": "t"},
        {"user_id": "u", "title": "t", "text": "x", "query_id": "q"},
    ]
    assert lines[0].fields.empty == {"title", "query_id"} and lines[1].fields.empty == set()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", 'user_id,text\r\nu,"a ""b"",\r\nc"\r\n'),
        ("a.csv", '\ufeffuser_id,text\nu,"a ""b"",\r\nc"'),
        ("a.tsv", 'user_id\ttext\nu\t"a ""b"",\r\nc"\n'),
        ("a.csv", 'user_id;text\nu;"a ""b"",\r\nc"\n'),
        ("a.txt", 'user_id\ttext\nu\t"a ""b"",\r\nc"\n'),
        ("a.csv", '\n\nuser_id,text\nu,"a ""b"",\r\nc"\n'),
        ("a.csv", ' user_id ,text\nu,"a ""b"",\r\nc"\n'),
    ],
    ids=["CRLF", "BOM", "tsv", "semicolons", "tabs by the header", "blank lines first", "spaces in the header"],
)
def test_forms_of_the_same_table_give_the_same_record(write, name, content):
    path, packed = write(content, name), write(gzip.compress(content.encode()), f"{name}.gz")

    assert _fields(path) == _fields(packed) == [{"user_id": "u", "text": 'a "b",\r\nc'}]


def test_where_is_the_line_that_a_row_begins_on(write):
    path = write('user_id,text\nu,"one\ntwo\n\nthree"\nu,four\n\nu,five\n')

    assert [line.where for line in csv.read(path)] == [f"{path}:2", f"{path}:6", f"{path}:8"]


@pytest.mark.parametrize(
    ("row", "message", "rejected"),
    [
        (b"u,t,x,y", "4 cells, but the header has 3", "u,t,x,y\n"),
        (b'u,"t" x,y', "',' expected after '\"'", 'u,"t" x,y\n'),
        (b"u,caf\xe9,", "not UTF-8", "u,caf\\xe9,\n"),
        (b"u,\xed\xa0\x80,", "not UTF-8", "u,\\xed\\xa0\\x80,\n"),
        (b"u,a\rb,", "new-line character seen in unquoted field", "u,a\rb,\n"),
        (b'u,"a\n\nb"c,', "',' expected after '\"'", 'u,"a\n\nb"c,\n'),
    ],
    ids=["too many cells", "text after quotes", "Latin-1", "surrogate", "bare CR", "over lines"],
)
def test_a_damaged_row_is_named_by_its_line_and_the_rows_around_it_are_read(write, row, message, rejected):
    path = write(b"user_id,text,title\nu,before,\n" + row + b"\nu,after,\n")
    faults = []

    assert [fields["text"] for fields in _fields(path, lambda *fault: faults.append(fault))] == ["before", "after"]
    ((error, raw),) = faults
    assert error.message.startswith(f"{path}:3: {message}") and raw == rejected
    with pytest.raises(DataError) as caught:
        _fields(path)
    assert str(caught.value) == str(error)


def test_a_row_with_too_few_cells_has_no_such_columns(write):
    (line,) = csv.read(write("user_id,text,title,date\nu,t\n"))

    assert line.fields == {"user_id": "u", "text": "t"} and line.fields.empty == set()


def test_a_quote_that_never_closes_is_a_fault_of_the_row_that_opens_it(write):
    faults = []
    path = write('user_id,text\nu,fine\nu,"open\n' + "u,x\n" * 99)

    assert len(_fields(path, lambda *fault: faults.append(fault))) == 1
    assert [error.message for error, _ in faults] == [f"{path}:3: unexpected end of data"]


def test_a_cell_over_the_limit_is_refused_by_line(write, monkeypatch):
    monkeypatch.setattr(jsonl, "MAX_LINE_BYTES", 1000)
    path = write('user_id,text\nu,"' + "long\n" * 300 + '"\nu,t\n')

    with pytest.raises(DataError, match=r":2: field larger than field limit"):
        _fields(path)
    with pytest.raises(DataError, match=r":2: line longer than"):
        _fields(write("user_id,text\nu," + "a" * 2000))


def test_a_long_cell_within_the_limit_is_read(write):
    text = "word " * 100_000

    assert _fields(write(f"user_id,text\nu,{text}\n"))[0]["text"] == text


@pytest.mark.parametrize("on_fault", [None, lambda *_: None], ids=["stop", "skip"])
@pytest.mark.parametrize(
    ("header", "message"),
    [(b"a,b,a", "column 'a' stands twice"), (b"\xff\xfeu\x00,", "not UTF-8"), (b'"a"b,c', "expected after")],
    ids=["twice", "UTF-16", "damaged"],
)
def test_without_a_sound_header_nothing_is_read(write, header, message, on_fault):
    path = write(header + b"\n1,2,3\n")

    with pytest.raises(DataError, match=message) as caught:
        _fields(path, on_fault)
    assert str(caught.value).startswith(f"{path}:1: ")


def test_columns_without_a_name_are_numbered(write):
    assert _fields(write(",user_id,\n0,u,x\n")) == [{"column 1": "0", "user_id": "u", "column 3": "x"}]


@pytest.mark.parametrize(
    ("cell", "date"),
    [
        ("2024-05-17", "2024-05-17"),
        ("20240517", "20240517"),
        ("1715939200", 1715939200),
        ("1715939200.5", 1715939200.5),
    ],
)
def test_digits_of_epoch_seconds_are_a_number_and_other_dates_are_text(write, cell, date):
    assert _fields(write(f"user_id,text,date\nu,t,{cell}\n"))[0]["date"] == date


@pytest.mark.parametrize("content", ["", "\n\n", "user_id,text\n", "user_id,text"])
def test_a_table_without_rows_gives_nothing(write, content):
    assert _fields(write(content)) == []


def test_a_damaged_archive_is_an_error_even_where_faults_go_aside(write):
    path = write(gzip.compress(b"user_id,text\n" + b"u,t\n" * 9999)[:-9], "a.csv.gz")

    with pytest.raises(DataError, match="the file is damaged"):
        _fields(path, lambda *_: None)


_CELLS = st.text(st.characters(blacklist_categories=["Cs"]), min_size=1).filter(lambda text: not text.isspace())


@given(
    st.lists(st.tuples(_CELLS, _CELLS, _CELLS), max_size=5), st.sampled_from(["\n", "\r\n"]), st.sampled_from(",\t;")
)
def test_what_the_standard_library_writes_comes_back(tmp_path_factory, rows, end, delimiter):
    text = io.StringIO(newline="")
    writer = stdlib.writer(text, delimiter=delimiter, lineterminator=end, quoting=stdlib.QUOTE_ALL)
    writer.writerows([("user_id", "doc_id", "text"), *rows])
    path = tmp_path_factory.mktemp("csv") / "data.csv"
    path.write_bytes(text.getvalue().encode())

    assert [tuple(fields.values()) for fields in _fields(path)] == rows


@given(st.binary(max_size=200))
def test_any_bytes_are_rows_or_a_data_error(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("csv") / "data.csv"
    path.write_bytes(b"user_id,text\n" + content)
    faults = []

    for line in csv.read(path, lambda error, raw: faults.append((error, raw))):
        assert set(line.fields) <= {"user_id", "text"}
    assert all(str(error).startswith(f"{path}:") and raw.encode() for error, raw in faults)
