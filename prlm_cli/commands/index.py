"""`prlm index`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prlm_cli import ui
from prlm_cli.commands import options

app = options.new_app()


@app.command()
def index(
    data: Annotated[list[Path], typer.Argument(metavar="DATA", help="JSONL files; - is stdin.")],
    workspace: options.WorkspaceDir = options.DEFAULT_WORKSPACE,
    split: Annotated[str | None, typer.Option("--split", help="Split of queries that name none.")] = None,
    json: options.Json = False,
) -> None:
    """Add or update documents and queries.

    A line with query_id is a query, any other a document. The same input twice changes nothing.

    Example: prlm index profiles.jsonl
    Example: prlm index queries.dev.jsonl --split dev
    """
    from prlm_cli.pipeline.index import index as run

    result = run(options.open_workspace(workspace), data, split=split)
    if json:
        ui.print_json(
            {name: getattr(result, name)._asdict() for name in ("documents", "queries")} | {"total": result.total}
        )
        return
    for name, counts in (("documents", result.documents), ("queries", result.queries)):
        if any(counts):
            ui.note(f"{name}: {counts.added} added, {counts.updated} updated, {counts.unchanged} unchanged")
    ui.note("the index holds " + ", ".join(f"{count} {name}" for name, count in result.total.items()))
