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
    output: options.OutFile = None,
    force: options.Force = False,
    json: options.Json = False,
) -> None:
    """Give each generation the reward model's score.

    Each generation of INPUT is written with its reward, between 0 and 1: how well its answer fits the query and the
    records that it holds. One without an answer gets no reward. What was scored before is not scored again.

    Example: prlm generate --split test | prlm score -
    Example: prlm score generations.jsonl --reward-model reward-1 -o scored.jsonl
    """
    from prlm_cli.core.errors import DataError

    if source is None:
        raise DataError("score has no INPUT", hint="name a JSONL file of generations, or - for standard input")
    from prlm_cli.pipeline.evaluate import read_generations
    from prlm_cli.pipeline.score import score as run

    where = options.open_workspace(workspace)
    results = run(where, read_generations(source), reward_model=reward_model, reporter=ui.Terminal())
    options.deliver(results, output=output, force=force, as_json=json)
