"""`prlm compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
import typer

from prlm_cli import ui
from prlm_cli.commands import options
from prlm_cli.commands.flags import Config, config_flags

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prlm_cli.pipeline.compare import Compared

app = options.new_app()


@app.command()
@config_flags(seed="seed")
def compare(
    config: Config,
    a: Annotated[
        Path, typer.Argument(metavar="A", help="Generations, JSONL; - is stdin; F,G pools seeds.", show_default=False)
    ],
    b: Annotated[list[Path], typer.Argument(metavar="B", help="What A is held against.", show_default=False)],
    metric: Annotated[list[str], typer.Option("--metric", help="Metric to compare; repeatable.")] = ["rougeL"],  # noqa: B006
    by: Annotated[
        Literal["user"] | None, typer.Option("--by", help="Also show each user's difference, the largest first.")
    ] = None,
    require: Annotated[
        list[str],
        typer.Option("--require", metavar="METRIC>=NUMBER", help="Exit 1 unless the interval of A - B keeps to it."),
    ] = [],  # noqa: B006
    workspace: options.WorkspaceDir = options.DEFAULT_WORKSPACE,
    report: options.Report = None,
    force: options.Force = False,
    json: options.Json = False,
    markdown: options.Markdown = False,
) -> None:
    """Test two generation files against each other, paired by query.

    The users are the sample. "worse off" is the share of users whom A serves worse than B, "least gain" the smallest
    difference that so many users show in four of five test sets. Several generations of a query, each with a seed of
    its own, are averaged.

    --require "rougeL>=+0.01" holds where the lower end of the 95 % interval of A - B is at least 0.01; with <=, where
    its upper end is at most the number.

    --report writes one page that needs nothing else: differences, users, and answers side by side. It numbers the
    users; --set eval.report_text=false leaves out their text, so that the page can be shared.

    Example: prlm compare trained.jsonl untrained.jsonl --metric rougeL --report report.html
    Example: prlm compare seed0.jsonl,seed1.jsonl untrained.jsonl --by user
    Example: prlm compare new.jsonl old.jsonl --require "rougeL>=-0.005"
    """
    from prlm_cli.pipeline.compare import compare_files
    from prlm_cli.pipeline.compare_report import html_report
    from prlm_cli.pipeline.requirements import check, parse_requirement
    from prlm_cli.pipeline.second_pass import Generations

    options.refuse_both(("--json", json), ("--md", markdown))
    options.check_report(report, force=force)
    metrics = [*metric, *(parse_requirement(requirement).metric for requirement in require)]
    rereads = report is not None and config.eval.report_text
    sources = {path: Generations(path, rereads=rereads) for path in (a, *b)}
    found = compare_files(
        a, b, metrics=metrics, resamples=config.eval.bootstrap, seed=config.seed, read=sources.__getitem__
    )
    if json:
        ui.print_json([record for path, of in found.items() for record in _records(a, path, of, by)])
    else:
        _print_notes(a, found)
        _print_tables(found, by, as_markdown=markdown)
    if report:
        options.write_report(report, html_report(a, found, sources, config))
    check(require, [comparison for of in found.values() for comparison in of.comparisons])


def _records(a: Path, b: Path, compared: Compared, by: str | None) -> Iterator[dict[str, Any]]:
    for comparison in compared.comparisons:
        users = {"users": compared.users(comparison.metric)} if by == "user" else {}
        yield {"a": str(a), "b": str(b), **msgspec.structs.asdict(comparison), **users}


def _print_notes(a: Path, found: dict[Path, Compared]) -> None:
    """What was left out or averaged."""
    for path, (aligned, _) in found.items():
        name, queries = ui.visible(str(path)), len(aligned.rows)
        if aligned.only_a or aligned.only_b:
            only = f"{aligned.only_a} queries that only A holds and {aligned.only_b} that only B holds"
            ui.note(f"{name}: left out {only}")
        sides = zip((ui.visible(str(a)), name), (aligned.a, aligned.b), aligned.generations(), strict=True)
        for side, scores, generations in sides:
            if generations > queries:
                policies = ui.visible(", ".join(sorted(scores.policies)))
                many = f"{generations} generations of {queries} queries by {policies}"
                ui.note(f"{side}: {many}; the seeds of a query are averaged")


def _print_tables(found: dict[Path, Compared], by: str | None, *, as_markdown: bool) -> None:
    from prlm_cli.pipeline.compare_report import tables, user_tables

    for number, table in enumerate([*tables(found), *(user_tables(found) if by == "user" else [])]):
        ui.print_line(end="\n" if number else "")
        options.show_table(table, as_markdown=as_markdown)
