"""CSV and TSV: a header, then one record a row. All cells are text, so an id keeps its leading zeros."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from prlm_cli.core import jsonl
from prlm_cli.core.errors import DataError
from prlm_cli.core.jsonl import Line, OnFault
from prlm_cli.formats.rows import Row, date_in_text

_DELIMITERS = ",\t;"  # spreadsheets of many countries write semicolons
_QUOTING = "quote a cell that holds a delimiter, a line break or a quote, and double each quote in it"


class _RowFault(DataError):
    """What is wrong with one row; the rows after it can be read."""


def read(path: Path, on_fault: OnFault | None = None) -> Iterator[Line]:
    """The rows of a CSV or TSV file by the names of its header; an empty cell is one that is not given.

    `where` is the line that a row begins on: a quoted cell may hold line breaks.

    Raises:
        DataError: If the header names a column twice, or a row is damaged and there is no `on_fault`.
    """
    csv.field_size_limit(jsonl.MAX_LINE_BYTES)
    name = jsonl.name_of(path)
    with jsonl.open_stream(path) as stream:
        source = _Source(name, stream)
        rows = csv.reader(source, delimiter=source.delimiter(path), strict=True)
        header: list[str] = []
        while True:
            where = f"{name}:{rows.line_num + 1}"
            source.record.clear()
            try:
                cells = _next(where, rows)
                if cells is None:
                    return
                if header:
                    yield from _line(where, header, cells)
                else:
                    header = _header(where, cells)
            except _RowFault as fault:
                if on_fault is None or not header:
                    raise
                raw = "".join(source.record).encode(errors="surrogateescape")
                on_fault(fault, raw.decode(errors="backslashreplace"))


class _Source:
    """The lines of a file for `csv.reader`; `record` keeps those of the row that is being read."""

    def __init__(self, name: str, stream: IO[bytes]) -> None:
        self._name = name
        self._lines = jsonl.lines_of(name, stream)
        self._first: str | None = None
        self._number = 0
        self.record: list[str] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._read() if self._first is None else self._first
        self._first = None
        self.record.append(line)
        return line

    def delimiter(self, path: Path) -> str:
        """A tab where the name says so, else what the first line holds most of."""
        self._first = next(self, "")
        if ".tsv" in path.suffixes:
            return "\t"
        return max(_DELIMITERS, key=self._first.count)

    def _read(self) -> str:
        line = next(self._lines)
        self._number += 1
        if len(line) > jsonl.MAX_LINE_BYTES:
            raise jsonl.too_long(f"{self._name}:{self._number}")
        return line.decode(errors="surrogateescape")  # refused by row, with its place, in `_check_encoding`


def _next(where: str, rows: Any) -> list[str] | None:
    """The cells of the next row; None at the end."""
    try:
        cells: list[str] | None = next(rows, None)
    except csv.Error as error:
        raise _RowFault(f"{where}: {error}", hint=_QUOTING) from error
    if cells:
        try:
            "".join(cells).encode()
        except UnicodeEncodeError as error:
            hint = "convert the file, for example with iconv"
            raise _RowFault(f"{where}: not UTF-8", hint=hint) from error
    return cells


def _header(where: str, cells: list[str]) -> list[str]:
    names = [cell.strip() or f"column {number}" for number, cell in enumerate(cells, start=1)]
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"{where}: column '{name}' stands twice", hint="give each column a name of its own")
    return names


def _line(where: str, header: list[str], cells: list[str]) -> Iterator[Line]:
    """The line of a row; none for a blank row."""
    if len(cells) > len(header):
        raise _RowFault(f"{where}: {len(cells)} cells, but the header has {len(header)}", hint=_QUOTING)
    filled: dict[str, Any] = {column: cell for column, cell in zip(header, cells, strict=False) if cell}
    if "date" in filled:
        filled["date"] = date_in_text(filled["date"])
    if filled:
        yield Line(where, Row(filled, header[: len(cells)] - filled.keys()))
