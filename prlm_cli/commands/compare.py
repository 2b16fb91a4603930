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

    from prlm_cli.pipeline.compare import Compared, Comparison, Counts

app = options.new_app()
_ROWS_HEADER = ["metric", "A", "B", "A - B", "95 % interval", "p", "p (Holm)", "win/tie/loss", "n"]
_USERS_HEADER = ["metric", "users", "by user", "effect size", "worse off", "95 % interval", "least gain"]


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
    json: options.Json = False,
) -> None:
    """Test two generation files against each other, paired by query.

    The users are the sample. "worse off" is the share of users whom A serves worse than B, "least gain" the smallest
    difference that so many users show in four of five test sets. Several generations of a query, each with a seed of
    its own, are averaged.

    --require "rougeL>=+0.01" holds where the lower end of the 95 % interval of A - B is at least 0.01; with <=, where
    its upper end is at most the number.

    Example: prlm compare trained.jsonl untrained.jsonl --metric rougeL --metric rouge1
    Example: prlm compare seed0.jsonl,seed1.jsonl untrained.jsonl --by user
    Example: prlm compare new.jsonl old.jsonl --require "rougeL>=-0.005"
    """
    from prlm_cli.pipeline.compare import compare_files
    from prlm_cli.pipeline.requirements import check, parse_requirement

    metrics = [*metric, *(parse_requirement(requirement).metric for requirement in require)]
    found = compare_files(a, b, metrics=metrics, resamples=config.eval.bootstrap, seed=config.seed)
    if json:
        ui.print_json([record for path, of in found.items() for record in _records(a, path, of, by)])
    else:
        _print_notes(a, found)
        _print_tables(found)
        if by == "user":
            _print_users(found)
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


def _print_tables(found: dict[Path, Compared]) -> None:
    labelled = [(_label(found, path, c.metric), c) for path, of in found.items() for c in of.comparisons]
    ui.print_table(_ROWS_HEADER, [[label, *_row(comparison)] for label, comparison in labelled])
    ui.print_line()
    ui.print_table(_USERS_HEADER, [[label, *_users_row(comparison)] for label, comparison in labelled])


def _print_users(found: dict[Path, Compared]) -> None:
    for path, compared in found.items():
        for comparison in compared.comparisons:
            label = _label(found, path, comparison.metric)
            ui.print_line()
            ui.print_table(
                [f"{label} of user", "A", "B", "A - B", "queries"],
                [
                    [user.user_id, f"{user.a:.4f}", f"{user.b:.4f}", _signed(user.difference), user.queries]
                    for user in compared.users(comparison.metric)
                ],
            )


def _label(found: dict[Path, Compared], path: Path, metric: str) -> str:
    return metric if len(found) == 1 else f"{metric} {path}"


def _row(comparison: Comparison) -> list[str]:
    difference = comparison.difference
    return [
        f"{comparison.mean_a:.4f}",
        f"{comparison.mean_b:.4f}",
        _signed(difference.mean),
        f"{difference:+.4f}",
        f"{comparison.p:.4f}",
        f"{comparison.p_holm:.4f}",
        _tally(comparison.by_query),
        str(difference.n),
    ]


def _users_row(comparison: Comparison) -> list[str]:
    effect_size, harm, least_gain = comparison.effect_size, comparison.harm, comparison.least_gain
    return [
        str(comparison.difference.users),
        _tally(comparison.by_user),
        "n/a" if effect_size is None else f"{effect_size:+.2f}",
        f"{harm.mean:.2f}" if harm else "n/a",
        f"{harm:.2f}" if harm else "n/a",
        "n/a" if least_gain is None else f"{least_gain:.4f}",
    ]


def _signed(difference: float) -> str:
    return f"{difference + 0.0:+.4f}"  # a sum with 0.0 is never -0.0


def _tally(counts: Counts | None) -> str:
    return f"{counts.win}/{counts.tie}/{counts.loss}" if counts else "n/a"
