"""Rows of tables: what is given in them, what is empty, and their values as JSON has them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, time
from decimal import Decimal
from typing import Any

from prlm_cli.core.errors import DataError
from prlm_cli.core.jsonl import Line, OnFault

_IDS = ("user_id", "doc_id", "query_id", "source_doc_id")
_EPOCH = re.compile(r"-?\d{9,}(\.\d+)?")


class Row(dict[str, Any]):
    """The filled cells of a row, by column; `empty` names the columns whose cell is not."""

    def __init__(self, cells: Mapping[str, Any], empty: Iterable[str] = ()) -> None:
        super().__init__(cells)
        self.empty = frozenset(empty)


def typed_rows(name: str, rows: Iterable[Mapping[str, Any]], on_fault: OnFault | None) -> Iterator[Line]:
    """Rows of Python values (Parquet, Arrow) as lines; null is empty, a whole number in a column of ids is its digits.

    Raises:
        DataError: If JSON has no such value as one of them, and there is no `on_fault`.
    """
    for number, cells in enumerate(rows, start=1):
        where = f"{name}, row {number}"
        try:
            values = {column: _value(f"{where}: field '{column}'", cell) for column, cell in cells.items()}
        except DataError as error:
            if on_fault is None:
                raise
            on_fault(error, {column: str(cell) for column, cell in cells.items()})
            continue
        yield Line(where, row_of(values))


def row_of(cells: Mapping[str, Any]) -> Row:
    """A row of cells of which None stands for an empty one."""
    filled = {column: cell for column, cell in cells.items() if cell is not None}
    for column in _IDS:
        if type(filled.get(column)) is int:
            filled[column] = str(filled[column])
    return Row(filled, cells.keys() - filled.keys())


def date_in_text(text: str) -> str | int | float:
    """A date as it stands in a table of texts, where a number of epoch seconds is its digits."""
    if not _EPOCH.fullmatch(text):
        return text
    return float(text) if "." in text else int(text)


def _value(where: str, value: Any) -> Any:
    if isinstance(value, str | bool | int) or value is None:
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise DataError(f"{where} is not a finite number", hint="leave it empty instead")
        return value
    if isinstance(value, date | time):  # a datetime is a date
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, list):
        return [_value(where, item) for item in value]
    if isinstance(value, Mapping):
        return {str(name): _value(where, item) for name, item in value.items()}
    raise DataError(f"{where} holds {type(value).__name__}, which JSON has not", hint="leave the column out")
