"""`prlm eval INPUT`: the metrics of generations."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import structs

from prlm_cli import ui
from prlm_cli.commands import options
from prlm_cli.commands.kinds_of_eval.delivery import Delivery
from prlm_cli.core.errors import DataError
from prlm_cli.core.settings import Config

if TYPE_CHECKING:
    from prlm_cli.pipeline.evaluate import Evaluation


def score_generations(
    config: Config,
    folder: Path,
    source: Path | None,
    metrics: list[str] | None,
    submission: Path | None,
    delivery: Delivery,
) -> None:
    """Scores the generations of a file on the metrics, or on those of the settings; `submission` is a folder."""
    from prlm_cli.pipeline.eval_report import history_sizes, html_report
    from prlm_cli.pipeline.evaluate import evaluate
    from prlm_cli.pipeline.leaderboard import Submission
    from prlm_cli.pipeline.second_pass import Generations

    if source is None:
        raise DataError("eval has no INPUT", hint="name a JSONL file of generations, or - for standard input")
    settings = config.eval if metrics is None else structs.replace(config.eval, metrics=metrics, leaderboard=False)
    generations = Generations(source, rereads=bool(delivery.report) and settings.report_text)
    answers = None if submission is None else Submission(submission, force=delivery.force)
    result = evaluate(answers.recorded(generations) if answers else generations, settings, seed=config.seed)
    delivery.result(
        result.as_dict(),
        result.scores.records(),
        lambda: print_evaluation(result, as_markdown=delivery.as_markdown),
    )
    if answers:
        answers.write()
        ui.note(f"{result.n} answers in {answers.path}")
    chosen = structs.replace(config, eval=settings)
    histories = history_sizes(options.open_workspace(folder)) if delivery.report else {}
    delivery.page(lambda: html_report(result, generations, chosen, histories=histories))


def print_evaluation(result: Evaluation, *, as_markdown: bool = False) -> None:
    """The metrics of an evaluation as a table."""
    from prlm_cli.pipeline.eval_report import metric_table

    policies, retrievers = (ui.visible(", ".join(names)) for names in (result.policies, result.retrievers))
    ui.note(f"{result.n} generations for {result.users} users; policy {policies}; retriever {retrievers}")
    options.show_table(metric_table(result), as_markdown=as_markdown)
