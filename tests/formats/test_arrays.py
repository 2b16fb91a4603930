from __future__ import annotations

import gzip
import io
import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prlm_cli.core import jsonl
from prlm_cli.core.errors import DataError
from prlm_cli.formats import arrays

_VALUES = st.recursive(
    st.integers() | st.text() | st.booleans() | st.none() | st.sampled_from(['"', "\\", '\\"', "[{", "]},", ""]),
    lambda items: st.lists(items, max_size=3) | st.dictionaries(st.text(), items, max_size=3),
    max_leaves=8,
)
_OBJECTS = st.lists(st.dictionaries(st.text(), _VALUES, max_size=4), max_size=5)


@pytest.fixture
def write(tmp_path):
    def to_file(content, name="a.json"):
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return to_file


def _objects(path, on_fault=None):
    return [line.fields for line in arrays.read_objects(path, on_fault)]


@given(_OBJECTS, st.sampled_from([None, 0, 3]), st.booleans(), st.integers(1, 40))
def test_the_elements_come_out_as_they_went_in_wherever_the_chunks_end(
    tmp_path_factory, objects, indent, is_wrapped, chunk
):
    path = tmp_path_factory.mktemp("arrays") / "a.json"
    path.write_text(json.dumps({"task": "x", "golds": objects} if is_wrapped else objects, indent=indent))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrays, "_CHUNK", chunk + 30)  # the opening stands in the first
        assert _objects(path) == objects


@given(st.binary(max_size=60), st.integers(1, 9))
def test_any_bytes_are_objects_or_a_data_error(tmp_path_factory, content, chunk):
    path = tmp_path_factory.mktemp("arrays") / "a.json"
    path.write_bytes(b"[" + content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrays, "_CHUNK", chunk)
        try:
            found = _objects(path)
        except DataError as error:
            assert str(path) in str(error)
        else:
            assert found == json.loads(path.read_bytes())


def test_where_counts_from_one_in_the_word_of_the_caller(write):
    path = write(b'\xef\xbb\xbf\n [{"a": 1},\r\n\t{"a": 2}]\n\n')

    assert [line.where for line in arrays.read_objects(path, noun="question")] == [
        f"{path}, question 1",
        f"{path}, question 2",
    ]


@pytest.mark.parametrize(
    ("element", "message"),
    [
        (b"7", "a JSON int, not an object"),
        (b"[1]", "a JSON list, not an object"),
        (b"", "not valid JSON"),
        (b'{"a": NaN}', "not valid JSON"),
        (b'{"a": 1, "a": 2}', "not valid JSON (key 'a' stands twice)"),
        (b'{"a": "caf\xe9"}', "not UTF-8"),
        (b'{"a" 1}', "not valid JSON"),
        (b"[" * 50_000 + b"]" * 50_000, "not valid JSON (nested too deeply)"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)
def test_a_bad_element_is_a_fault_and_those_after_it_are_read(write, element, message):
    path = write(b'[{"a": 0}, ' + element + b', {"a": 2}]')
    faults = []

    assert _objects(path, lambda *fault: faults.append(fault)) == [{"a": 0}, {"a": 2}]
    ((error, rejected),) = faults
    assert error.message.startswith(f"{path}, element 2: {message}")
    assert rejected.strip() == element.decode(errors="backslashreplace")
    with pytest.raises(DataError):
        _objects(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a JSON array"),
        (b'{"user_id": "u"}', "not a JSON array"),
        (b'{"golds": {"a": []}}', "not a JSON array"),
        (b'[{"a": 1}, {"a"', "the array does not end"),
        (b'[{"a": 1}', "the array does not end"),
        (b'[{"a": "open]}, 1]', "the array does not end"),
        (b'[{"a": 1}] [', "something follows the array"),
    ],
)
def test_what_is_no_whole_array_is_an_error_even_where_faults_go_aside(write, content, message):
    with pytest.raises(DataError, match=message):
        _objects(write(content), lambda *_: None)


def test_archives_are_unpacked_and_damage_is_found_to_the_last_byte(write):
    packed = gzip.compress(b'[{"a": 1}]' + b" " * 2**20)

    assert _objects(write(packed, "a.json.gz")) == [{"a": 1}]
    with pytest.raises(DataError, match="the file is damaged"):
        _objects(write(packed[:-8] + bytes(8), "a.json.gz"))


def test_an_element_over_the_limit_is_refused(write, monkeypatch):
    monkeypatch.setattr(jsonl, "MAX_LINE_BYTES", 2**20)

    with pytest.raises(DataError, match="line longer than 1 MB"):
        _objects(write(b'[{"a": "' + b"x" * 2**22 + b'"}]'))


def test_memory_holds_an_element_and_not_the_file(write):
    element = json.dumps({"text": "some words of a long history " * 2000}).encode()
    path = write(b"[" + b",".join([element] * 400) + b"]")  # 23 MB
    tracemalloc.start()
    try:
        count = sum(1 for _ in arrays.read_objects(path))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert count == 400 and peak < 4 * 2**20


def test_a_string_of_many_escapes_is_read_in_time(write):
    text = '\\"' * 200_000

    assert _objects(write(io.BytesIO(json.dumps([{"a": text}]).encode()).getvalue())) == [{"a": text}]
