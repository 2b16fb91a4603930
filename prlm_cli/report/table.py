"""A table of words and figures, which the terminal, Markdown and pages of HTML show alike."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

_MARKUP = re.compile(r"([\\`*<|~&]|\](?=[(\[]))")  # an interval in brackets is no link, and stays as it is


class Table(NamedTuple):
    """A table; its first column is text, the others are figures."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


def markdown(table: Table) -> str:
    """The table in GitHub's Markdown, figures to the right; what would be read as markup is escaped."""
    ruler = [":--" if n == 0 else "--:" for n, _ in enumerate(table.header)]
    lines = [_cells(table.header), ruler, *(_cells(row) for row in table.rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cells(row: Sequence[str]) -> list[str]:
    return [_MARKUP.sub(r"\\\1", " ".join(cell.split())) for cell in row]
