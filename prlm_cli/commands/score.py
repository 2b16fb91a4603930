"""`prlm score`."""

from __future__ import annotations

from typing import Annotated

import typer

from prlm_cli import ui
from prlm_cli.commands import options

app = options.new_app()


@app.command()
def score(
    source: options.Input = None,
    workspace: options.WorkspaceDir = options.DEFAULT_WORKSPACE,
    reward_model: Annotated[
        str | None, typer.Option("--reward-model", help="Run of the reward model; default: newest.", metavar="NAME")
    ] = None,
    author: Annotated[
        bool, typer.Option("--author", help="Ask classifiers of the users' titles instead of the reward model.")
    ] = False,
    output: options.OutFile = None,
    force: options.Force = False,
    json: options.Json = False,
) -> None:
    """Give each generation the reward model's score.

    Each generation of INPUT is written with its reward, between 0 and 1: how well its answer fits the query and the
    records that it holds. One without an answer gets no reward. What was scored before is not scored again.

    --author tells instead how surely the answer is taken for the user's own: by a classifier of the user's titles in
    the index against other users', all older than the query. It reads other users' titles and stores nothing.

    Example: prlm generate --split test | prlm score -
    Example: prlm score generations.jsonl --reward-model reward-1 -o scored.jsonl
    Example: prlm score --author generations.jsonl | prlm eval - --metrics author,style
    """
    from prlm_cli.core.errors import DataError, SettingsError

    if author and reward_model:
        raise SettingsError("--reward-model given with --author", hint="leave one of the two out")
    if source is None:
        raise DataError("score has no INPUT", hint="name a JSONL file of generations, or - for standard input")
    from prlm_cli.pipeline.evaluate import read_generations

    where, generations, reporter = options.open_workspace(workspace), read_generations(source), ui.Terminal()
    if author:
        from prlm_cli.pipeline.recognise import recognise  # without torch

        results = recognise(where, generations, reporter=reporter)
    else:
        from prlm_cli.pipeline.score import score as run

        results = run(where, generations, reward_model=reward_model, reporter=reporter)
    options.deliver(results, output=output, force=force, as_json=json)
