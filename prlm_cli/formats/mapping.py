"""`--map`: which column of a file is which field of a record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prlm_cli.core.errors import DataError, SettingsError, did_you_mean
from prlm_cli.core.jsonl import Line
from prlm_cli.core.records import Document, Query
from prlm_cli.formats.rows import Row, date_in_text

FIELDS = frozenset(Document.__struct_fields__ + Query.__struct_fields__) - {"meta"}
"""What a column can be mapped to."""


def parse_map(text: str) -> dict[str, str]:
    """Field -> column, from `field=column,field=column`.

    Raises:
        SettingsError: If the text is no such list, or names an unknown field or one field twice.
    """
    mapping: dict[str, str] = {}
    for pair in text.split(","):
        field, equals, column = (part.strip() for part in pair.partition("="))
        if not (field and equals and column):
            hint = "write field=column, for example text=body,title=subject"
            raise SettingsError(f"--map {pair.strip() or text}", hint=hint)
        if field not in FIELDS:
            turned = f"did you mean {column}={field}?" if column in FIELDS else did_you_mean(field, FIELDS)
            raise SettingsError(f"--map {pair.strip()}: no field '{field}'", hint=turned)
        if field in mapping:
            raise SettingsError(f"--map: field '{field}' stands twice", hint="a field comes from one column")
        mapping[field] = column
    return mapping


def apply(line: Line, mapping: Mapping[str, str]) -> Line:
    """A line whose fields are named by a mapping; an empty column gives no field.

    A column that was mapped is no longer a field of its own name. One that stood where a mapped field goes is kept in
    `meta`.

    Raises:
        DataError: If the row has no such column.
    """
    where, row = line
    empty = row.empty if isinstance(row, Row) else frozenset()
    mapped: dict[str, Any] = {}
    for field, column in mapping.items():
        if column not in row and column not in empty:
            raise DataError(f"{where}: no column '{column}' for '{field}'", hint="check --map against the columns")
        value = row.get(column)
        if value is not None:
            mapped[field] = date_in_text(value) if field == "date" and isinstance(value, str) else value
    columns = {*mapping.values()}
    fields = {name: value for name, value in row.items() if name not in columns}
    if displaced := {name: fields.pop(name) for name in mapping if name in fields}:
        meta = fields.get("meta") or {}
        fields["meta"] = {**meta, **displaced} if isinstance(meta, dict) else meta
    return Line(where, {**fields, **mapped})
