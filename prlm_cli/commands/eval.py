"""`prlm eval`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prlm_cli import ui
from prlm_cli.commands import options
from prlm_cli.commands.flags import Config, config_flags
from prlm_cli.core.errors import DataError

if TYPE_CHECKING:
    from prlm_cli.pipeline.evaluate import Evaluation

app = options.new_app()


@app.command("eval")
@config_flags(seed="seed")
def evaluate(
    config: Config,
    generations: options.Input = None,
    metrics: Annotated[str | None, typer.Option("--metrics", help="Metrics to report, separated by commas.")] = None,
    per_query: Annotated[Path | None, typer.Option("--per-query", help="Write each query's scores to a file.")] = None,
    workspace: options.WorkspaceDir = options.DEFAULT_WORKSPACE,
    force: options.Force = False,
    json: options.Json = False,
) -> None:
    """Score generations: the mean of each metric, with its 95 % interval over users.

    --per-query - prints one JSON line a query instead of the table.

    Example: prlm generate --split test | prlm eval -
    Example: prlm eval generations.jsonl --metrics rougeL,exact_match --json
    """
    from prlm_cli.core import jsonl
    from prlm_cli.pipeline.evaluate import evaluate as run
    from prlm_cli.pipeline.evaluate import read_generations

    if generations is None:
        raise DataError("eval has no INPUT", hint="name a JSONL file of generations, or - for standard input")
    settings = config.eval
    if metrics is not None:
        settings = settings.model_copy(update={"metrics": [name.strip() for name in metrics.split(",")]})
    result = run(read_generations(generations), settings, seed=config.seed)
    if per_query == jsonl.STDIN:
        ui.print_records(result.scores.records())
        return
    if json:
        ui.print_json(result.as_dict())
    else:
        _print_table(result)
    if per_query:
        ui.note(f"{jsonl.write(per_query, result.scores.records(), force=force)} records in {per_query}")


def _print_table(result: Evaluation) -> None:
    policies, retrievers = (ui.visible(", ".join(names)) for names in (result.policies, result.retrievers))
    ui.note(f"{result.n} generations for {result.users} users; policy {policies}; retriever {retrievers}")
    rows = [
        (metric, f"{summary.mean:.4f}", f"{summary:.4f}", summary.n) if summary else (metric, "n/a", "n/a", 0)
        for metric, summary in result.metrics.items()
    ]
    ui.print_table(["metric", "mean", "95 % interval", "n"], rows)
