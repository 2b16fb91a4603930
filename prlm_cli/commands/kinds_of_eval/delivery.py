"""Where the results of `prlm eval` go: a table or JSON on stdout, each query's scores in a file."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prlm_cli import ui
from prlm_cli.core import jsonl
from prlm_cli.core.errors import DataError

if TYPE_CHECKING:
    from msgspec import Struct


@dataclass(frozen=True)
class Delivery:
    """What the user wants of the result: `per_query` and `report` name files, which only `force` replaces."""

    per_query: Path | None = None
    report: Path | None = None
    force: bool = False
    as_json: bool = False

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

    def page(self, html: Callable[[], str]) -> None:
        """Writes the page, where one is wanted.

        Raises:
            DataError: If the file exists, without `force`.
        """
        from prlm_cli.core.workspace import write_text

        if self.report is None:
            return
        if self.report.exists() and not self.force:
            raise DataError(f"{self.report} exists", hint="use --force to replace it")
        write_text(self.report, html())
        ui.note(f"report in {self.report}")
