"""`prlm retrieve`."""

from __future__ import annotations

from typing import Annotated

import typer

from prlm_cli import ui
from prlm_cli.commands import options
from prlm_cli.commands.flags import RETRIEVAL_FLAGS, Config, config_flags

app = options.new_app()


@app.command()
@config_flags(**RETRIEVAL_FLAGS, seed="seed")
def retrieve(
    config: Config,
    queries: options.Input = None,
    workspace: options.WorkspaceDir = options.DEFAULT_WORKSPACE,
    split: options.Split = "test",
    user: Annotated[str | None, typer.Option("--user", help="Only this user's queries.")] = None,
    text: Annotated[str | None, typer.Option("--text", help="One query of that user; - reads it from stdin.")] = None,
    engine: options.Engine = "local",
    output: options.OutFile = None,
    force: options.Force = False,
    json: options.Json = False,
) -> None:
    """Give each query the k documents of its own user that fit it best.

    Example: prlm retrieve -k 3 queries.jsonl | prlm generate -
    Example: prlm retrieve --split dev --retriever recency
    """
    from prlm_cli.core.jsonl import STDIN
    from prlm_cli.pipeline.retrieve import retrieve as run
    from prlm_cli.pipeline.sources import queries_from
    from prlm_cli.pipeline.windows import WINDOW

    settings, reporter = config.retrieval, ui.Terminal()
    with options.open_workspace(workspace).open_store() as store:
        found = queries_from(store, path=queries, split=split, user_id=user, text=text)
        window = 1 if queries == STDIN else WINDOW  # a stream is answered line by line
        on = options.engine_of(engine)
        prompt, seed = config.prompt, config.seed
        results = run(store, found, settings, prompt=prompt, seed=seed, window=window, engine=on, reporter=reporter)
        options.deliver(results, output=output, force=force, as_json=json)
