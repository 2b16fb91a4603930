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
    data: Annotated[
        list[Path] | None, typer.Argument(metavar="DATA", help="Files, folders, patterns; - is stdin.")
    ] = None,
    workspace: options.WorkspaceDir = options.DEFAULT_WORKSPACE,
    split: Annotated[str | None, typer.Option("--split", help="Split of queries that name none.")] = None,
    format: Annotated[
        str, typer.Option("--format", metavar="auto|jsonl|csv|parquet|datasets|lamp", help="Format of the input.")
    ] = "auto",
    mapping: options.Map = None,
    on_error: Annotated[
        str, typer.Option("--on-error", metavar="stop|skip", help="Store nothing, or all sound lines, if some are bad.")
    ] = "stop",
    corpus: Annotated[
        str, typer.Option("--corpus", metavar="own|shared", help="Users' histories, or documents for all users.")
    ] = "own",
    language: Annotated[
        str | None, typer.Option("--language", help="Language of a new index, or none if mixed; default english.")
    ] = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Make the terms of stored documents anew first.")] = False,
    engine: options.Engine = "local",
    shards: Annotated[
        int | None, typer.Option("--shards", min=1, metavar="N", help="Files of a new index; each user is in one.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Add or update documents and queries.

    A line with query_id is a query, any other a document. The same input twice changes nothing.

    Example: prlm index profiles.jsonl
    Example: prlm index queries.dev.jsonl --split dev
    Example: prlm index data/ --engine ray --shards 16
    """
    from prlm_cli.formats.mapping import parse_map
    from prlm_cli.pipeline.index import index as run

    result = run(
        options.open_workspace(workspace),
        data or [],
        split=split,
        format=format,
        columns=parse_map(mapping) if mapping else None,
        skip_faults=options.choice("--on-error", on_error, ("stop", "skip")) == "skip",
        language=language,
        rebuild=rebuild,
        shared=options.choice("--corpus", corpus, ("own", "shared")) == "shared",
        shards=shards,
        engine=options.engine_of(engine),
        reporter=ui.Terminal(),
    )
    if json:
        counted = {name: getattr(result, name)._asdict() for name in ("documents", "queries")}
        ui.print_json({**counted, "rejected": result.rejected, "total": result.total})
        return
    for name, counts in (("documents", result.documents), ("queries", result.queries)):
        if any(counts):
            ui.note(f"{name}: {counts.added} added, {counts.updated} updated, {counts.unchanged} unchanged")
    if result.rejected:
        ui.note(f"{result.rejected} lines left out, with their reasons in {workspace / 'errors.jsonl'}")
    ui.note("the index holds " + ", ".join(f"{count} {name}" for name, count in result.total.items()))
