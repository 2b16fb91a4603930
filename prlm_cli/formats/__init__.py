"""Formats: other people's files -> the fields of documents and queries. One file and one line each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from prlm_cli.core.jsonl import Line, OnFault
from prlm_cli.core.registry import Registry


class Format(Protocol):
    """Reads one kind of input."""

    def __call__(self, path: Path, on_fault: OnFault | None = None) -> Iterator[Line]:
        """The records of an input one by one, not yet validated; `where` names the file and the line, row or question.

        What cannot be read as a record goes to `on_fault`, and without it is raised; an input that cannot be read on
        raises `DataError` either way.
        """
        ...


FORMATS: Registry[Format] = Registry(
    "format",
    {
        "jsonl": "prlm_cli.core.jsonl:read_lines",
        "csv": "prlm_cli.formats.csv:read",
        "parquet": "prlm_cli.formats.parquet:read",
        "datasets": "prlm_cli.formats.datasets:read",
        "lamp": "prlm_cli.formats.lamp:read",
        "realpref": "prlm_cli.formats.realpref:read",
    },
)
