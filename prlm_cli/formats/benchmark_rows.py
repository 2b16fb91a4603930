"""The rows of a benchmark's file, whichever of the usual forms it has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from prlm_cli.core import jsonl
from prlm_cli.core.jsonl import Line, OnFault
from prlm_cli.formats import parquet
from prlm_cli.formats.arrays import read_objects


def read_rows(path: Path, on_fault: OnFault | None = None, *, noun: str = "row") -> Iterator[Line]:
    """The rows of Parquet, of JSONL, or of one JSON array, by the name of the file; `.gz` and `.zst` are unpacked.

    Raises:
        DataError: If the file cannot be read, or a row is no object and there is no `on_fault`.
    """
    suffix = Path(path.name.removesuffix(".gz").removesuffix(".zst")).suffix
    if suffix == ".parquet":
        yield from parquet.read(path, on_fault)
    elif suffix in (".jsonl", ".ndjson"):
        yield from jsonl.read_lines(path, on_fault)
    else:
        yield from read_objects(path, on_fault, noun=noun)
