from __future__ import annotations

import gzip
import json
import os

import pytest
import zstandard

from prlm_cli.core import jsonl
from prlm_cli.core.errors import DataError
from prlm_cli.formats.detect import detect, is_recognised

_QUESTIONS = json.dumps([{"id": "1", "input": "x" * 20_000, "profile": [{"id": "2", "text": "t"}]}], indent=1)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("a.jsonl", "jsonl"),
        ("a.ndjson", "jsonl"),
        ("a.JSONL", "jsonl"),
        ("a.csv", "csv"),
        ("a.tsv", "csv"),
        ("a.txt", "jsonl"),
        ("a", "jsonl"),
        ("a.csv.jsonl", "jsonl"),
    ],
)
@pytest.mark.parametrize("packed", ["", ".gz", ".zst"])
def test_the_name_tells_the_format_also_of_an_archive(tmp_path, name, found, packed):
    assert detect(tmp_path / f"{name}{packed}") == found


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (_QUESTIONS, "lamp"),
        ('{"task": "LaMP_4", "golds": [{"id": "1", "output": "x"}]}', "lamp"),
        ('[{"input": "x", "profile": {"text": []}}]', "lamp"),
        ('{"user_id": "u", "text": "t"}\n', "jsonl"),
        ('{"query_id": "q", "profile": [{"doc_id": "d"}]}', "jsonl"),
        ('[{"user_id": "u", "text": "t"}]', "jsonl"),
        ("[]", "jsonl"),
        ("", "jsonl"),
    ],
)
@pytest.mark.parametrize("pack", [("", bytes), (".gz", gzip.compress), (".zst", zstandard.ZstdCompressor().compress)])
def test_json_is_told_by_what_it_begins_with(tmp_path, content, found, pack):
    path = tmp_path / f"a.json{pack[0]}"
    path.write_bytes(pack[1](content.encode()))

    assert detect(path) == found


def test_a_large_file_is_not_read_to_tell_its_format(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    with path.open("wb") as stream:
        stream.write(_QUESTIONS.encode()[:-2])
        stream.truncate(2**40)

    assert detect(path) == "lamp"


def test_streams_are_jsonl(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")

    assert detect(jsonl.STDIN) == detect(tmp_path / "pipe.csv") == "jsonl"


def test_a_folder_that_is_no_data_set_has_no_format(tmp_path):
    with pytest.raises(DataError, match="is a directory"):
        detect(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "is_data"),
    [
        ("a.json", '{"users": 3}', False),
        ("a.json", '{"user_id": "u"}', True),
        ("a.json", _QUESTIONS, True),
        ("dev_outputs.json", '{"task": "LaMP_4", "golds": []}', False),
        ("README.md", '{"user_id": "u"}', False),
        ("a.jsonl", "", True),
        ("a.tsv", "user_id\ttext\nu\tt\n", True),
        ("a.csv", '"text","user_id"\n', True),
        ("ATTRIBUTION.tsv", "doc_id\tauthors\n", False),
        ("a.parquet", "", True),
    ],
)
def test_what_in_a_folder_is_data(tmp_path, name, content, is_data):
    (tmp_path / name).write_text(content)

    assert is_recognised(tmp_path / name) is is_data
