"""`prlm eval INPUT`: the metrics of generations."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import structs

from prlm_cli import ui
from prlm_cli.commands.kinds_of_eval.delivery import Delivery
from prlm_cli.core.errors import DataError
from prlm_cli.core.settings import Config

if TYPE_CHECKING:
    from prlm_cli.pipeline.evaluate import Evaluation


def score_generations(config: Config, source: Path | None, metrics: list[str] | None, delivery: Delivery) -> None:
    """Scores the generations of a file on the metrics, or on those of the settings."""
    from prlm_cli.pipeline.evaluate import evaluate, read_generations

    if source is None:
        raise DataError("eval has no INPUT", hint="name a JSONL file of generations, or - for standard input")
    settings = config.eval if metrics is None else structs.replace(config.eval, metrics=metrics)
    result = evaluate(read_generations(source), settings, seed=config.seed)
    delivery.result(result.as_dict(), result.scores.records(), lambda: print_evaluation(result))


def print_evaluation(result: Evaluation) -> None:
    """The metrics of an evaluation as a table."""
    policies, retrievers = (ui.visible(", ".join(names)) for names in (result.policies, result.retrievers))
    ui.note(f"{result.n} generations for {result.users} users; policy {policies}; retriever {retrievers}")
    rows = [
        (metric, f"{summary.mean:.4f}", f"{summary:.4f}", summary.n) if summary else (metric, "n/a", "n/a", 0)
        for metric, summary in result.metrics.items()
    ]
    ui.print_table(["metric", "mean", "95 % interval", "n"], rows)
