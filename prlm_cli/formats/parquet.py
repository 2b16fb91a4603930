"""Parquet files, read in batches through PyArrow, which `datasets` stands on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from prlm_cli.core import jsonl
from prlm_cli.core.errors import DataError
from prlm_cli.core.jsonl import Line, OnFault
from prlm_cli.formats.rows import typed_rows

BATCH = 100
"""Rows held in memory at once: a row may carry a whole history."""


def read(path: Path, on_fault: OnFault | None = None) -> Iterator[Line]:
    """The rows of a Parquet file; null is not given, dates and times become ISO 8601.

    Raises:
        DataError: If it is no Parquet file or damaged, or JSON has no such value as one of a row and there is no
            `on_fault`.
    """
    return typed_rows(str(path), _rows(path), on_fault)


def columns(path: Path) -> list[str]:
    """The names of a Parquet file's columns.

    Raises:
        DataError: If it is no Parquet file or damaged.
    """
    with _open(path) as file:
        return list(file.schema_arrow.names)


def values(name: str, batches: Iterable[Any]) -> Iterator[dict[str, Any]]:
    """The rows of Arrow batches, one by one, as Python values.

    Raises:
        DataError: If a batch cannot be read.
    """
    import pyarrow

    try:
        for batch in batches:
            yield from batch.to_pylist()
    except (OSError, ValueError, OverflowError, pyarrow.ArrowException) as error:
        raise DataError(f"{name}: {_reason(error)}", hint="the file is damaged") from error


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with _open(path) as file:
        yield from values(str(path), file.iter_batches(BATCH))


def _open(path: Path) -> Any:
    import pyarrow
    from pyarrow import parquet

    if path == jsonl.STDIN or path.is_fifo():
        raise DataError(f"{jsonl.name_of(path)}: Parquet cannot be read from a stream", hint="name a file")
    if path.is_dir():
        raise DataError(f"{path} is a directory", hint="name a Parquet file")
    try:
        return parquet.ParquetFile(path, pre_buffer=False)  # would fetch a whole row group
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file", hint="name a Parquet file") from error
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"{path}: {_reason(error)}", hint="the file is damaged, or no Parquet file") from error


def _reason(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
