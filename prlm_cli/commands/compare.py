"""`prlm compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from prlm_cli import ui
from prlm_cli.commands import options
from prlm_cli.commands.flags import Config, config_flags
from prlm_cli.core import jsonl
from prlm_cli.core.errors import DataError

if TYPE_CHECKING:
    from prlm_cli.pipeline.compare import Comparison, Counts

app = options.new_app()
_HEADER = ["metric", "A", "B", "A - B", "95 % interval", "p", "win/tie/loss", "by user", "n"]


@app.command()
@config_flags(seed="seed")
def compare(
    config: Config,
    a: Annotated[Path, typer.Argument(metavar="A", help="Generations, JSONL; - is stdin.", show_default=False)],
    b: Annotated[list[Path], typer.Argument(metavar="B", help="What A is held against.", show_default=False)],
    metric: Annotated[list[str], typer.Option("--metric", help="Metric to compare; repeatable.")] = ["rougeL"],  # noqa: B006
    require: Annotated[
        list[str],
        typer.Option("--require", metavar="METRIC>=NUMBER", help="Exit 1 unless the interval of A - B keeps to it."),
    ] = [],  # noqa: B006
    workspace: options.WorkspaceDir = options.DEFAULT_WORKSPACE,
    json: options.Json = False,
) -> None:
    """Test two generation files against each other, paired by query.

    The users are the sample. --require "rougeL>=+0.01" holds where the lower end of the 95 % interval of A - B is at
    least 0.01; with <=, where its upper end is at most the number.

    Example: prlm compare trained.jsonl untrained.jsonl --metric rougeL --metric rouge1
    Example: prlm compare new.jsonl old.jsonl --require "rougeL>=-0.005"
    """
    from prlm_cli.pipeline.compare import check, compare_scores, parse_requirement
    from prlm_cli.pipeline.evaluate import read_generations, score_generations

    if [a, *b].count(jsonl.STDIN) > 1:
        raise DataError("standard input is named twice", hint="write one of the two to a file")
    metrics = [*metric, *(parse_requirement(requirement).metric for requirement in require)]
    scores = score_generations(read_generations(a), metrics)
    found = {
        path: compare_scores(
            scores, score_generations(read_generations(path), metrics), metrics, config.eval.bootstrap, config.seed
        )
        for path in b
    }
    if json:
        ui.print_json(
            [{"a": str(a), "b": str(path), **msgspec.structs.asdict(c)} for path, of in found.items() for c in of]
        )
    else:
        _print_table(found)
    check(require, [comparison for of in found.values() for comparison in of])


def _print_table(found: dict[Path, list[Comparison]]) -> None:
    rows = []
    for path, comparisons in found.items():
        label = "" if len(found) == 1 else f" {path}"
        only_a, only_b = comparisons[0].only_a, comparisons[0].only_b
        if only_a or only_b:
            name = ui.visible(str(path))
            ui.note(f"{name}: left out {only_a} queries that only A holds and {only_b} that only B holds")
        rows += [_row(label, comparison) for comparison in comparisons]
    ui.print_table(_HEADER, rows)


def _row(label: str, comparison: Comparison) -> list[str]:
    difference = comparison.difference
    return [
        comparison.metric + label,
        f"{comparison.mean_a:.4f}",
        f"{comparison.mean_b:.4f}",
        f"{difference.mean + 0.0:+.4f}",
        f"{difference:+.4f}",
        f"{comparison.p:.4f}",
        _tally(comparison.by_query),
        _tally(comparison.by_user),
        str(difference.n),
    ]


def _tally(counts: Counts | None) -> str:
    return f"{counts.win}/{counts.tie}/{counts.loss}" if counts else "n/a"
