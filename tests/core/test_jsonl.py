from __future__ import annotations

import gzip
import io
import json
import os
import sys
import time
from types import SimpleNamespace

import msgspec
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from prlm_cli.core import jsonl
from prlm_cli.core.errors import DataError, PrlmError, StorageError
from prlm_cli.core.records import Document, Query, Retrieved

_GOOD = b'{"query_id": "q1", "user_id": "u", "text": "t"}'


def _error(path, kind=Query) -> DataError:
    with pytest.raises(DataError) as caught:
        list(jsonl.read(path, kind))
    return caught.value


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"user_id": "u", "text": "t"}', "no field 'query_id'; every query needs query_id, user_id and text"),
        (b'{"query_id": "q", "text": "t"}', "no field 'user_id'"),
        (b'{"query_id": "q", "user_id": "u"}', "no field 'text'"),
        (b'{"query_id": "q", "user_id": "u", "text": ""}', "field 'text' is empty"),
        (b'{"query_id": "", "user_id": "u", "text": "t"}', "field 'query_id' is empty"),
        (b'{"query_id": "q", "user_id": 7, "text": "t"}', "field 'user_id': expected str, got int"),
        (b'{"query_id": "q", "user_id": "u", "text": ["t"]}', "field 'text': expected str, got array"),
        (b'{"query_id": "q", "user_id": "u", "text": "t", "date": true}', "field 'date': expected"),
        (b'{"query_id": "q", "user_id": "u", "text": "a\\u0000b"}', "field 'text' holds a NUL character"),
        (b'{"query_id": "q", "user_id": "u\\u0000", "text": "t"}', "field 'user_id' holds a NUL character"),
        (b'{"query_id": "q", "user_id": "u", "text": "t", "target": "\\u0000"}', "field 'target' holds a NUL"),
        (b'{"query_id": "q", "user_id": "u", "text": "t"', "not valid JSON"),
        (b'{"query_id": "q", "user_id": "u", "text": "t", "x": NaN}', "not valid JSON"),
        (b'{"query_id": "q", "user_id": "u", "text": "t", "x": -Infinity}', "not valid JSON"),
        (b'{"query_id": "q", "user_id": "u", "text": "t", "x": 1e999}', "not valid JSON"),
        (b'{"query_id": "q", "user_id": "u", "text": "t", "x": ' + b"1" * 5000 + b"}", "not valid JSON"),
        (b'{"query_id": "q", "user_id": "u", "text": "\\ud800"}', "not valid JSON"),
        (b'{"query_id": "q", "user_id": "u", "text": "a\x01b"}', "not valid JSON"),
        (b'{"query_id": "q", "user_id": "u", "text": "a"} x', "not valid JSON"),
        (b'{"query_id": "q", "query_id": "r", "user_id": "u", "text": "t"}', "not valid JSON"),
        (b"\x00", "not valid JSON"),
        (b'["q", "u", "t"]', "a JSON list, not an object"),
        (b'"text"', "a JSON str, not an object"),
        (b"null", "a JSON NoneType, not an object"),
        (b'{"text": "caf\xe9"}', "not UTF-8 (byte 14 of the line)"),
        (b'{"text": "\xed\xa0\x80"}', "not UTF-8 (byte 11 of the line)"),
        (b"\xff\xfe{\x00}\x00", "not UTF-8 (byte 1 of the line)"),
        (b"[" * 100_000, "not valid JSON (nested too deeply)"),
        (b'{"a":' * 100_000, "not valid JSON (nested too deeply)"),
    ],
    ids=lambda value: value[:60] if isinstance(value, str) else "",
)
def test_a_bad_line_is_named_by_file_and_line_and_field(tmp_path, line, message):
    path = tmp_path / "q.jsonl"
    path.write_bytes(_GOOD + b"\n\n" + line + b"\n")

    assert str(_error(path)).startswith(f"{path}:3: {message}")


@pytest.mark.parametrize(
    "line",
    [
        b'{"a": 1, "a": 1}',
        b'{"a":1,"b":2,"a":3}',
        b'{"a" : 1, "a"\t: 2, "text": "b\\": c"}',
        b'{"a": 1, "\\u0061": 2}',
        b'{"x": [{"y": {"a": 1, "a": 2}}]}',
        b'[{"a": 1, "a": 2}]',
        b'{"": 1, "": 2}',
    ],
)
def test_a_repeated_key_is_refused_wherever_it_stands(line):
    with pytest.raises(DataError, match=r"^here: not valid JSON \(key '.*' stands twice\)"):
        jsonl.decode("here", line)


@pytest.mark.parametrize(
    "line",
    [
        b'{"a": "he said \\"yes\\": twice", "b": "\\"a\\":1"}',
        b'{"a": ":", "b": ":b", "c": "\\\\", "d": ": :"}',
        b'{"a" : {"a": [{"a": 1}, {"a": 1}]}, "b":{"a":1}}',
        b'{"a": "\\u0022:", "A": ""}',
    ],
)
def test_text_that_looks_like_keys_is_no_repeated_key(line):
    assert jsonl.decode("here", line) == json.loads(line)


_KEYS = st.sampled_from(["a", "b", 'a"', "a:", '":', "\\", "é", " "])
_PAIRS = st.recursive(
    st.integers() | _KEYS,
    lambda items: st.lists(items, max_size=3) | st.lists(st.tuples(_KEYS, items), max_size=4).map(tuple),
    max_leaves=12,
)


def _write(value, space):
    """JSON of nested values, in which a tuple of pairs is an object whose keys may repeat; and whether one does."""
    if isinstance(value, tuple):
        items = [_write(item, space) for _, item in value]
        texts = [json.dumps(name) + space + ":" + text for (name, _), (text, _) in zip(value, items, strict=True)]
        return "{" + ",".join(texts) + "}", len(dict(value)) < len(value) or any(found for _, found in items)
    if isinstance(value, list):
        items = [_write(item, space) for item in value]
        return "[" + ",".join(text for text, _ in items) + "]", any(found for _, found in items)
    return json.dumps(value), False


@settings(max_examples=300)
@given(_PAIRS, st.sampled_from(["", " ", "\t "]))
def test_a_line_is_refused_exactly_if_a_key_repeats(value, space):
    text, repeats = _write((("x", value),), space)
    try:
        jsonl.decode("here", text.encode())
    except DataError as error:
        assert repeats and "stands twice" in str(error)
    else:
        assert not repeats


def test_a_missing_field_inside_a_profile_is_named_by_its_path(tmp_path):
    path = tmp_path / "r.jsonl"
    path.write_bytes(_GOOD[:-1] + b', "retriever": "bm25", "profile": [{"doc_id": "d"}]}')

    assert "profile[0]" in str(_error(path, Retrieved))


@pytest.mark.parametrize(
    "content",
    [
        _GOOD,
        _GOOD + b"\n",
        b"\xef\xbb\xbf" + _GOOD + b"\n",
        _GOOD + b"\r\n",
        b"\n \n\r\n" + _GOOD + b"\n\t\n",
        b"  " + _GOOD + b"  \n",
    ],
    ids=["no final newline", "plain", "BOM", "CRLF", "blank lines", "spaces"],
)
def test_forms_of_the_same_file_give_the_same_record(tmp_path, content):
    path = tmp_path / "q.jsonl"
    path.write_bytes(content)
    packed = [tmp_path / "q.jsonl.gz", tmp_path / "q.jsonl.zst"]
    packed[0].write_bytes(gzip.compress(content))
    packed[1].write_bytes(zstandard.ZstdCompressor().compress(content))

    assert [list(jsonl.read(file, Query)) for file in (path, *packed)] == [[_query()]] * 3


def test_a_byte_order_mark_is_accepted_on_the_first_line_only(tmp_path):
    path = tmp_path / "q.jsonl"
    path.write_bytes(_GOOD + b"\n\xef\xbb\xbf" + _GOOD)

    assert str(_error(path)).startswith(f"{path}:2: not valid JSON")


@pytest.mark.parametrize("content", [b"", b"\n\n", b"  \r\n"])
def test_a_file_without_records_gives_an_empty_stream(tmp_path, content):
    path = tmp_path / "q.jsonl"
    path.write_bytes(content)

    assert list(jsonl.read(path, Query)) == []


def test_a_line_over_the_limit_is_refused_soon_and_one_at_the_limit_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(jsonl, "MAX_LINE_BYTES", 2**20)
    path = tmp_path / "q.jsonl"
    path.write_bytes(_GOOD.ljust(2**20 - 1) + b"\n" + _GOOD.ljust(50 * 2**20))
    started = time.monotonic()

    assert str(_error(path)).startswith(f"{path}:2: line longer than 1 MB")
    assert time.monotonic() - started < 2


def test_the_reader_takes_from_a_stream_no_more_than_it_gives(monkeypatch):
    read_end, write_end = os.pipe()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=open(read_end, "rb")))  # noqa: PTH123,SIM115
    os.write(write_end, _GOOD + b"\n")  # and no end of file: waiting for more would hang

    lines = jsonl.read_lines(jsonl.STDIN)
    assert next(lines).where == "<stdin>:1"
    lines.close()
    os.close(write_end)
    sys.stdin.buffer.close()


def test_standard_input_is_named_in_errors(monkeypatch):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"{}")))

    assert str(_error(jsonl.STDIN)).startswith("<stdin>:1: no field 'query_id'")


def test_a_file_that_is_not_there_or_is_a_directory_is_a_data_error(tmp_path):
    assert str(_error(tmp_path / "no.jsonl")).startswith(f"{tmp_path / 'no.jsonl'}: no such file")
    assert str(_error(tmp_path)).startswith(f"{tmp_path} is a directory")


_ZSTD = zstandard.ZstdCompressor(write_checksum=True).compress(_GOOD)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("q.jsonl.gz", gzip.compress(_GOOD * 99)[:-12]),
        ("q.jsonl.gz", b"not gzip"),
        ("q.jsonl.gz", gzip.compress(_GOOD)[:-8] + b"\0" * 8),
        ("q.jsonl.zst", _ZSTD[:-1]),
        ("q.jsonl.zst", b"not zstd"),
        ("q.jsonl.zst", _ZSTD[:-4] + b"\0" * 4),
    ],
    ids=["gzip cut short", "not gzip", "gzip checksum", "zstd cut short", "not zstd", "zstd checksum"],
)
def test_a_broken_archive_is_a_data_error(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)

    assert str(_error(path)).startswith(f"{path}: ") and str(_error(path)).endswith("the file is damaged")


def test_a_fault_goes_aside_with_its_line_and_the_lines_after_it_are_read(tmp_path):
    path = tmp_path / "q.jsonl"
    path.write_bytes(b"[1]\r\n" + _GOOD + b'\n{"text": "caf\xe9"}\n' + _GOOD + b"\n{")
    faults = []

    lines = list(jsonl.read_lines(path, lambda error, rejected: faults.append((error.message, rejected))))
    assert [line.where for line in lines] == [f"{path}:2", f"{path}:4"]
    assert [rejected for _, rejected in faults] == ["[1]", '{"text": "caf\\xe9"}', "{"]
    assert [message.split(": ")[0] for message, _ in faults] == [f"{path}:{n}" for n in (1, 3, 5)]


@pytest.mark.parametrize(
    "content",
    [
        b'[{"user_id": "u", "text": "t"},\n {"user_id": "u", "text": "t"}]',
        b'[{"user_id": "u", "text": "t"}]',
        b'[\n{"user_id": "u"}\n]',
        b'\n{\n  "user_id": "u"\n}',
        b'\xef\xbb\xbf [ \r\n{"user_id": "u"}]',
        b'[{"text": "' + b"a" * 2**21 + b'"}]',
    ],
    ids=["list", "list of one", "list over lines", "object over lines", "BOM", "long"],
)
def test_one_json_document_is_called_that_and_the_hint_helps(tmp_path, monkeypatch, content):
    monkeypatch.setattr(jsonl, "MAX_LINE_BYTES", 2**20)
    path = tmp_path / "data.json"
    path.write_bytes(content)

    with pytest.raises(DataError, match=r":[12]: one JSON document, not one object a line; jq -c ") as caught:
        list(jsonl.read_lines(path, lambda *_: pytest.fail("a fault for each of its lines")))
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("date", "kept"), [("2024-05", "2024-05"), (0, 0), ("", None), (None, None), (1e9, 1e9)], ids=str
)
def test_a_date_is_kept_as_it_is_and_an_empty_one_is_none(date, kept):
    assert jsonl.check_date("here", Document(user_id="u", text="t", date=date)).date == kept


@pytest.mark.parametrize("date", ["soon", "1700000000", 1e18, float("nan"), "2023-13-01"], ids=str)
def test_what_is_no_date_is_refused(date):
    with pytest.raises(DataError, match=r"^here: field 'date' is not a date"):
        jsonl.check_date("here", Document(user_id="u", text="t", date=date))


@given(st.binary(max_size=80) | st.text(max_size=40).map(lambda text: b'{"text": "' + text.encode("utf-8", "replace")))
def test_any_bytes_are_a_record_or_a_prlm_error(content):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))
        try:
            assert all(isinstance(record, Document) for record in jsonl.read(jsonl.STDIN, Document))
        except PrlmError as error:
            assert str(error).startswith("<stdin>:")


@settings(max_examples=50)
@given(
    st.lists(st.builds(Query, query_id=st.text(min_size=1), user_id=st.just("u"), text=st.text(min_size=1)), max_size=4)
)
def test_what_write_wrote_is_what_read_reads(tmp_path_factory, queries):
    queries = [query for query in queries if "\x00" not in query.query_id + query.text]
    path = tmp_path_factory.mktemp("jsonl") / "out.jsonl"

    assert jsonl.write(path, queries) == len(queries)
    assert list(jsonl.read(path, Query)) == queries


def test_write_replaces_a_file_only_by_force_and_only_when_all_is_written(tmp_path):
    path = tmp_path / "out.jsonl"
    jsonl.write(path, [_query()])
    before = path.read_bytes()

    with pytest.raises(DataError, match="exists; use --force"):
        jsonl.write(path, [])
    with pytest.raises(ZeroDivisionError):
        jsonl.write(path, (_query() for n in [1, 0] if 1 / n), force=True)
    assert path.read_bytes() == before
    assert jsonl.write(path, [], force=True) == 0
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.jsonl"]


def test_write_into_a_folder_that_is_not_there_is_a_storage_error(tmp_path):
    with pytest.raises(StorageError, match=r"out\.jsonl: No such file or directory"):
        jsonl.write(tmp_path / "no" / "out.jsonl", [_query()])


def test_a_record_is_one_line_whatever_its_text_holds():
    line = jsonl.encode(msgspec.structs.replace(_query(), text="a\nb\u2028c\x7f"))

    assert line.count(b"\n") == 1 and line.endswith(b"}\n")


def _query() -> Query:
    return Query(query_id="q1", user_id="u", text="t")
