"""What holds for every format of the table."""

from __future__ import annotations

import inspect
import json

import pytest

from prlm_cli.core import jsonl
from prlm_cli.core.errors import DataError
from prlm_cli.core.jsonl import Line
from prlm_cli.core.records import Document, Query
from prlm_cli.formats import FORMATS
from prlm_cli.formats.detect import detect

DOCUMENT = {"user_id": "u", "doc_id": "007", "text": "a text", "title": "a title", "date": "2024-05-17", "lang": "de"}
QUERY = {"query_id": "q", "user_id": "u", "text": "asked", "target": "answered", "split": "dev"}


_OF_RECORDS = [name for name in FORMATS if name != "realpref"]  # whose rows cannot hold just any record


@pytest.fixture
def inputs(tmp_path):
    """The same document and query in each format."""
    import datasets

    columns = [*dict.fromkeys([*DOCUMENT, *QUERY])]
    rows = [{column: record.get(column) for column in columns} for record in (DOCUMENT, QUERY)]
    (tmp_path / "d.jsonl").write_text(json.dumps(DOCUMENT) + "\n" + json.dumps(QUERY) + "\n")
    cells = [columns, *([row[column] or "" for column in columns] for row in rows)]
    (tmp_path / "d.csv").write_text("\n".join(",".join(row) for row in cells))
    table = datasets.Dataset.from_list(rows)
    with (tmp_path / "d.parquet").open("wb") as stream:
        table.to_parquet(stream)
    table.save_to_disk(str(tmp_path / "d"))
    item = {"id": "007", "text": "a text", "title": "a title", "date": "2024-05-17", "lang": "de"}
    question = {"id": "q", "user_id": "u", "input": "asked", "output": "answered", "profile": [item]}
    (tmp_path / "dev_questions.json").write_text(json.dumps([question]))
    return dict(zip(FORMATS, (tmp_path / f"d{end}" for end in (".jsonl", ".csv", ".parquet", "")), strict=False)) | {
        "lamp": tmp_path / "dev_questions.json"
    }


@pytest.mark.parametrize("name", _OF_RECORDS)
def test_the_same_records_come_out_of_every_format(inputs, name):
    document, query = FORMATS[name](inputs[name])

    assert detect(inputs[name]) == name
    found = jsonl.validate(document.where, document.fields, Document)
    assert found == Document(**{k: v for k, v in DOCUMENT.items() if k != "lang"}, meta={"lang": "de"})
    asked = jsonl.validate(query.where, query.fields, Query)
    lamp = {"doc_ids": ["007"], "meta": {"task": "LaMP", "input": "asked"}} if name == "lamp" else {}
    assert asked == Query(**QUERY, **lamp)


@pytest.mark.parametrize("name", _OF_RECORDS)
def test_every_format_reads_line_by_line_and_has_one_signature(inputs, name):
    parameters = [*inspect.signature(FORMATS[name]).parameters]
    lines = FORMATS[name](inputs[name])

    assert parameters[:2] == ["path", "on_fault"]
    assert inspect.isgenerator(lines) and isinstance(next(lines), Line)
    lines.close()


@pytest.mark.parametrize("name", [*FORMATS])
def test_a_file_that_is_not_there_is_a_data_error_that_names_it(tmp_path, name):
    with pytest.raises(DataError, match="none"):
        list(FORMATS[name](tmp_path / "none"))


@pytest.mark.parametrize("name", [*FORMATS])
def test_bytes_that_are_no_such_file_are_a_data_error_even_where_faults_go_aside(tmp_path, name):
    path = tmp_path / "noise_questions"
    path.write_bytes(b"\xff\x00 PAR1 \xfe" * 99)
    faults = []
    try:
        assert list(FORMATS[name](path, lambda error, _: faults.append(error))) == []
    except DataError as error:
        faults.append(error)

    assert faults and all(isinstance(fault, DataError) and str(path) in str(fault) for fault in faults)
