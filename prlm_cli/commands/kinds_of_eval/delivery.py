"""Where the results of `prlm eval` go: a table or JSON on stdout, each query's scores in a file."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prlm_cli import ui
from prlm_cli.commands import options
from prlm_cli.core import jsonl

if TYPE_CHECKING:
    from msgspec import Struct

    from prlm_cli.report.table import Table


@dataclass(frozen=True)
class Delivery:
    """What the user wants of the result: `per_query` and `report` name files; only `force` replaces the first."""

    per_query: Path | None = None
    report: Path | None = None
    force: bool = False
    as_json: bool = False
    as_markdown: bool = False

    def result(self, summary: dict[str, Any], records: Iterable[Struct], print_table: Callable[[], None]) -> None:
        """Prints the summary, as JSON or as a table, and writes the records; `--per-query -` prints these instead."""
        if self.per_query == jsonl.STDIN:
            ui.print_records(records)
            return
        if self.as_json:
            ui.print_json(summary)
        else:
            print_table()
        if self.per_query:
            ui.note(f"{jsonl.write(self.per_query, records, force=self.force)} records in {self.per_query}")

    def table(self, table: Table) -> None:
        """Prints a table, for the terminal or in Markdown."""
        options.show_table(table, as_markdown=self.as_markdown)

    def page(self, html: Callable[[], str]) -> None:
        """Writes the page, where one is wanted."""
        if self.report:
            options.write_report(self.report, html())
