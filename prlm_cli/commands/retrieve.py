"""`prlm retrieve`."""

from __future__ import annotations

from typing import Annotated

import typer

from prlm_cli import ui
from prlm_cli.commands.flags import Config, config_flags
from prlm_cli.commands.options import (
    DEFAULT_WORKSPACE,
    Force,
    Input,
    Json,
    Offline,
    OutFile,
    Quiet,
    Split,
    Verbose,
    WorkspaceDir,
    new_app,
    open_workspace,
)

app = new_app()


@app.command()
@config_flags(k="retrieval.k", retriever="retrieval.retriever", undated="retrieval.undated", seed="seed")
def retrieve(
    config: Config,
    queries: Input = None,
    workspace: WorkspaceDir = DEFAULT_WORKSPACE,
    split: Split = "test",
    user: Annotated[str | None, typer.Option("--user", help="Only this user's queries.")] = None,
    text: Annotated[str | None, typer.Option("--text", help="One query of that user; - reads it from stdin.")] = None,
    output: OutFile = None,
    force: Force = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    offline: Offline = False,
) -> None:
    """Give each query the k documents of its own user that fit it best.

    Example: prlm retrieve -k 3 queries.jsonl | prlm generate -
    Example: prlm retrieve --split dev --retriever recency
    """
    from prlm_cli.core import jsonl
    from prlm_cli.pipeline.retrieve import retrieve as run
    from prlm_cli.pipeline.sources import queries_from

    with open_workspace(workspace).open_store() as store:
        found = queries_from(store, path=queries, split=split, user_id=user, text=text)
        results = run(store, found, config.retrieval, seed=config.seed)
        if output:
            ui.note(f"{jsonl.write(output, results, force=force)} records in {output}")
        elif json:
            ui.print_json(list(results))
        else:
            ui.print_records(results)
