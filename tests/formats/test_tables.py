"""Parquet files and saved data sets."""

from __future__ import annotations

import datetime as dt
import decimal
import os
import subprocess
import sys
import warnings

import datasets as hf
import pyarrow as pa
import pyarrow.parquet
import pytest

from prlm_cli.core.errors import DataError
from prlm_cli.formats import datasets, parquet

_ZONE = dt.timezone(dt.timedelta(hours=2))


@pytest.fixture
def tables(tmp_path):
    """Writes rows as a Parquet file and as a saved data set, and returns how each is read."""

    def write(rows, schema=None):
        table = pa.Table.from_pylist(rows, schema=schema)
        pyarrow.parquet.write_table(table, tmp_path / "t.parquet", row_group_size=3)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            hf.Dataset(table).save_to_disk(str(tmp_path / "saved"))
        return [(parquet.read, tmp_path / "t.parquet"), (datasets.read, tmp_path / "saved")]

    return write


def test_values_become_those_of_json(tables):
    row = {
        "user_id": 7,
        "doc_id": "007",
        "text": "t",
        "date": dt.datetime(2024, 5, 17, 10, 30, tzinfo=_ZONE),
        "day": dt.date(2024, 5, 17),
        "at": dt.time(10, 30),
        "price": decimal.Decimal("1.50"),
        "score": 0.5,
        "ok": True,
        "tags": ["a", "b"],
        "more": {"n": 1, "when": dt.date(2020, 1, 1)},
        "title": None,
    }
    for read, path in tables([row], pa.Table.from_pylist([row | {"title": "x"}]).schema):
        ((where, fields),) = read(path)

        assert where == f"{path}, row 1"
        assert fields.pop("date") in ("2024-05-17T10:30:00+02:00", "2024-05-17T08:30:00+00:00")
        assert fields == {
            "user_id": "7",
            "doc_id": "007",
            "text": "t",
            "day": "2024-05-17",
            "at": "10:30:00",
            "price": "1.50",
            "score": 0.5,
            "ok": True,
            "tags": ["a", "b"],
            "more": {"n": 1, "when": "2020-01-01"},
        }
        assert fields.empty == {"title"}


@pytest.mark.parametrize(
    ("value", "message"),
    [(float("nan"), "is not a finite number"), (float("inf"), "is not a finite number"), (b"\xff", "holds bytes")],
    ids=["NaN", "infinity", "bytes"],
)
def test_what_json_has_not_is_a_fault_of_its_row(tables, value, message):
    for read, path in tables([{"user_id": "u", "x": value}, {"user_id": "v", "x": None}]):
        faults = {}

        assert [fields for _, fields in read(path, faults.__setitem__)] == [{"user_id": "v"}]
        ((error, rejected),) = faults.items()
        assert error.message.startswith(f"{path}, row 1: field 'x' {message}") and rejected["user_id"] == "u"
        with pytest.raises(DataError, match="row 1"):
            list(read(path))


def test_rows_come_in_order_whatever_the_row_groups(tables):
    rows = [{"user_id": "u", "doc_id": str(n), "text": "t"} for n in range(350)]
    for read, path in tables(rows):
        assert [(where, fields["doc_id"]) for where, fields in read(path)] == [
            (f"{path}, row {n + 1}", str(n)) for n in range(350)
        ]


@pytest.fixture
def splits(tmp_path):
    table = hf.Dataset.from_list(
        [{"query_id": "q", "text": "asked", "split": None}, {"query_id": None, "text": "told", "split": None}]
    )
    own = hf.Dataset.from_list([{"query_id": "q", "text": "asked", "split": "test"}])
    names = {"train": table, "validation": table, "test": table, "extra": table, "dev": own}
    hf.DatasetDict(names).save_to_disk(str(tmp_path / "splits"))
    return tmp_path / "splits"


def test_the_splits_of_a_data_set_are_those_of_its_queries_that_name_none(splits):
    found = [(line.where.split("/")[-1], line.fields.get("split")) for line in datasets.read(splits)]

    assert found == [
        ("train, row 1", "train"),
        ("train, row 2", None),
        ("validation, row 1", "dev"),
        ("validation, row 2", None),
        ("test, row 1", "test"),
        ("test, row 2", None),
        ("extra, row 1", None),
        ("extra, row 2", None),
        ("dev, row 1", "test"),
    ]


def test_the_columns_are_known_without_reading_rows(tables, splits):
    for (_, path), columns in zip(
        tables([{"input": "a", "profile": ["b"]}]), (parquet.columns, datasets.columns), strict=True
    ):
        assert columns(path) == ["input", "profile"]
    assert datasets.columns(splits) == ["query_id", "text", "split"]


def test_damaged_files_are_data_errors(tables, splits):
    (_, file), (_, folder) = tables([{"user_id": "u", "text": "t" * 9}] * 50)
    content = file.read_bytes()
    for damaged in (content[:-20], content[:40] + b"\xff" * 40 + content[80:], b""):
        file.write_bytes(damaged)
        with pytest.raises(DataError, match="damaged"):
            list(parquet.read(file))
    (folder / "state.json").write_text("{")
    with pytest.raises(DataError, match="damaged"):
        list(datasets.read(folder))
    next((splits / "train").glob("*.arrow")).write_bytes(b"nothing")
    with pytest.raises(DataError, match="damaged"):
        list(datasets.read(splits))
    (splits / "dataset_dict.json").write_text('{"splits": []}')
    with pytest.raises(DataError, match="damaged"):
        datasets.columns(splits)


def test_other_folders_and_streams_are_refused_with_a_hint(tmp_path):
    with pytest.raises(DataError, match="is no folder of `save_to_disk`"):
        list(datasets.read(tmp_path))
    with pytest.raises(DataError, match="is a directory; name a Parquet file"):
        list(parquet.read(tmp_path))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="cannot be read from a stream"):
        list(parquet.read(tmp_path / "pipe"))


def test_reading_says_nothing_and_writes_nothing(tables, tmp_path):
    paths = [str(path) for _, path in tables([{"user_id": "u", "text": "t"}] * 30)]
    home = tmp_path / "home"
    code = (
        "import sys; from pathlib import Path; from prlm_cli.formats import FORMATS; "
        "print(sum(1 for n, p in zip(['parquet', 'datasets'], sys.argv[1:]) for _ in FORMATS[n](Path(p))))"
    )
    environment = {**os.environ, "HOME": str(home), "HF_HOME": str(home / "hf"), "XDG_CACHE_HOME": str(home)}
    before = sorted(tmp_path.rglob("*"))
    done = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True, env=environment)

    assert (done.stdout, done.stderr) == ("60\n", "")
    assert sorted(tmp_path.rglob("*")) == before


def test_progress_bars_stay_as_the_caller_has_them(tables):
    (_, (read, path)) = tables([{"user_id": "u"}])
    for is_on in (True, False):
        (hf.enable_progress_bars if is_on else hf.disable_progress_bars)()
        list(read(path))
        assert hf.are_progress_bars_disabled() is not is_on
    hf.enable_progress_bars()
