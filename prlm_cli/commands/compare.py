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
    from prlm_cli.pipeline.compare import Comparison

app = options.new_app()


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
    report: Annotated[
        Path | None, typer.Option("--report", metavar="FILE.html", help="Write a page with plots and examples.")
    ] = None,
    force: options.Force = False,
    json: options.Json = False,
    markdown: options.Markdown = False,
) -> None:
    """Test two generation files against each other, paired by query.

    The users are the sample. --require "rougeL>=+0.01" holds where the lower end of the 95 % interval of A - B is at
    least 0.01; with <=, where its upper end is at most the number.

    --report writes one page that needs nothing else: differences, users, and answers side by side. It numbers the
    users; --set eval.report_text=false leaves out their text, so that the page can be shared.

    Example: prlm compare trained.jsonl untrained.jsonl --metric rougeL --report report.html
    Example: prlm compare new.jsonl old.jsonl --require "rougeL>=-0.005"
    """
    from prlm_cli.pipeline.compare import check, compare_scores, parse_requirement
    from prlm_cli.pipeline.evaluate import score_generations
    from prlm_cli.pipeline.second_pass import Generations, Scored

    options.refuse_both(("--json", json), ("--md", markdown))
    options.check_report(report, force=force)
    if [a, *b].count(jsonl.STDIN) > 1:
        raise DataError("standard input is named twice", hint="write one of the two to a file")
    metrics = [*metric, *(parse_requirement(requirement).metric for requirement in require)]

    def scored(path: Path) -> Scored:
        source = Generations(path, rereads=bool(report) and config.eval.report_text)
        return Scored(source, score_generations(source, metrics))

    of_a, others = scored(a), {path: scored(path) for path in b}
    found = {
        path: compare_scores(of_a.scores, of_b.scores, metrics, config.eval.bootstrap, config.seed)
        for path, of_b in others.items()
    }
    if json:
        ui.print_json(
            [{"a": str(a), "b": str(path), **msgspec.structs.asdict(c)} for path, of in found.items() for c in of]
        )
    else:
        _print_table(found, as_markdown=markdown)
    if report:
        from prlm_cli.pipeline.compare_report import html_report

        options.write_report(report, html_report(of_a, [(others[path], of) for path, of in found.items()], config))
    check(require, [comparison for of in found.values() for comparison in of])


def _print_table(found: dict[Path, list[Comparison]], *, as_markdown: bool) -> None:
    from prlm_cli.pipeline.compare_report import comparison_table

    for path, comparisons in found.items():
        only_a, only_b = comparisons[0].only_a, comparisons[0].only_b
        if only_a or only_b:
            name = ui.visible(str(path))
            ui.note(f"{name}: left out {only_a} queries that only A holds and {only_b} that only B holds")
    options.show_table(comparison_table(found), as_markdown=as_markdown)
