"""Folders saved with `save_to_disk` of `datasets`: one data set or its splits, memory-mapped, so nothing is copied."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prlm_cli.core.errors import DataError
from prlm_cli.core.jsonl import Line, OnFault
from prlm_cli.formats.parquet import BATCH, values
from prlm_cli.formats.rows import typed_rows
from prlm_cli.formats.splits import split_named

_SPLITS = "dataset_dict.json"
_STATE = "state.json"
_INFO = "dataset_info.json"


def read(path: Path, on_fault: OnFault | None = None) -> Iterator[Line]:
    """The rows of a saved data set; null is not given, dates and times become ISO 8601.

    A query that names no split is of the split that it lies in.

    Raises:
        DataError: If it is no saved data set or damaged, or JSON has no such value as one of a row and there is no
            `on_fault`.
    """
    for split, line in read_splits(path, on_fault):
        if split and "query_id" in line.fields and not line.fields.get("split"):
            line.fields["split"] = split
        yield line


def read_splits(path: Path, on_fault: OnFault | None = None) -> Iterator[tuple[str | None, Line]]:
    """The rows as `read` gives them, each with the split that it lies in."""
    for name, data in _load(path):
        where = f"{path}/{name}" if name else str(path)
        batches = data.with_format("arrow").iter(BATCH)
        for line in typed_rows(where, values(where, batches), on_fault):
            yield split_named(name or ""), line


def is_saved_dataset(path: Path) -> bool:
    """Whether a folder was written by `save_to_disk`."""
    return (path / _SPLITS).is_file() or ((path / _STATE).is_file() and (path / _INFO).is_file())


def columns(path: Path) -> list[str]:
    """The names of a saved data set's columns; of the first split, where it has several."""
    try:
        if (path / _SPLITS).is_file():
            path = path / json.loads((path / _SPLITS).read_bytes())["splits"][0]
        return list(json.loads((path / _INFO).read_bytes())["features"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise _damaged(path, error) from error


def _load(path: Path) -> list[tuple[str, Any]]:
    import datasets
    import pyarrow

    if not is_saved_dataset(path):
        raise DataError(f"{path} is no folder of `save_to_disk`", hint="name the folder that holds dataset_info.json")
    shows_progress = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        loaded = datasets.load_from_disk(str(path))
    except (OSError, ValueError, LookupError, TypeError, pyarrow.ArrowException) as error:
        raise _damaged(path, error) from error
    finally:
        if shows_progress:
            datasets.enable_progress_bars()
    return list(loaded.items()) if isinstance(loaded, datasets.DatasetDict) else [("", loaded)]


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(f"{path}: {type(error).__name__} on reading the data set", hint="the folder is damaged")
