"""`prlm eval`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from msgspec import structs

from prlm_cli import ui
from prlm_cli.commands import options
from prlm_cli.commands.flags import RETRIEVAL_FLAGS, Config, Layers, config_flags
from prlm_cli.core import jsonl
from prlm_cli.core.errors import DataError, SettingsError

if TYPE_CHECKING:
    from msgspec import Struct

    from prlm_cli.metrics.intervals import Interval
    from prlm_cli.pipeline.evaluate import Evaluation
    from prlm_cli.pipeline.retrieval_quality import RetrievalQuality, RetrieverQuality

app = options.new_app()


@app.command("eval")
@config_flags(**RETRIEVAL_FLAGS, seed="seed")
def evaluate(
    layers: Layers,
    source: options.Input = None,
    metrics: Annotated[str | None, typer.Option("--metrics", help="Metrics to report, separated by commas.")] = None,
    retrieval: Annotated[
        bool, typer.Option("--retrieval", help="Measure retrieved records instead of generations.")
    ] = False,
    split: Annotated[
        str | None,
        typer.Option("--split", help="With --retrieval: queries of the index, without INPUT; default: test."),
    ] = None,
    per_query: Annotated[Path | None, typer.Option("--per-query", help="Write each query's scores to a file.")] = None,
    workspace: options.WorkspaceDir = options.DEFAULT_WORKSPACE,
    force: options.Force = False,
    json: options.Json = False,
) -> None:
    """Score generations: the mean of each metric, with its 95 % interval over users.

    --per-query - prints one JSON line a query instead of the table.

    --retrieval helps to choose a retriever before anything is trained: how much the titles of the k records share with
    the target (at best, and in the mean), beside the newest records, random ones, and those of another user. INPUT then
    holds queries or retrieved records.

    Example: prlm generate --split test | prlm eval -
    Example: prlm eval generations.jsonl --metrics rougeL,exact_match --json
    Example: prlm eval --retrieval --split dev --retriever bm25 -k 4
    """
    config = layers.resolve()
    deliver = partial(_deliver, per_query=per_query, force=force, as_json=json)
    if retrieval:
        if metrics is not None:
            raise SettingsError("--metrics does not go with --retrieval", hint="leave one of the two out")
        quality = _measure_retrieval(config, workspace, source, split or "test")
        deliver(quality.as_dict(), quality.overlaps.records(), lambda: _print_retrieval(quality))
        return
    if unused := [*(key for key in layers.flags if key.startswith("retrieval.")), *(["--split"] if split else [])]:
        raise SettingsError(f"{', '.join(unused)} given without --retrieval", hint="generations hold their records")
    from prlm_cli.pipeline.evaluate import evaluate as run
    from prlm_cli.pipeline.evaluate import read_generations

    if source is None:
        raise DataError("eval has no INPUT", hint="name a JSONL file of generations, or - for standard input")
    settings = config.eval
    if metrics is not None:
        settings = structs.replace(settings, metrics=[name.strip() for name in metrics.split(",")])
    result = run(read_generations(source), settings, seed=config.seed)
    deliver(result.as_dict(), result.scores.records(), lambda: _print_metrics(result))


def _measure_retrieval(config: Config, folder: Path, source: Path | None, split: str) -> RetrievalQuality:
    from prlm_cli.pipeline.retrieval_quality import read_queries, retrieval_quality
    from prlm_cli.pipeline.sources import queries_from

    measure = partial(
        retrieval_quality,
        settings=config.retrieval,
        bootstrap=config.eval.bootstrap,
        seed=config.seed,
        reporter=ui.Terminal(),
    )
    workspace = options.open_workspace(folder)
    if source is not None and not workspace.index.exists():
        return measure(None, read_queries(source))
    with workspace.open_store() as store:
        if source is not None:
            return measure(store, read_queries(source))
        return measure(store, queries_from(store, path=None, split=split, user_id=None, text=None))


def _deliver(
    summary: dict[str, Any],
    records: Iterable[Struct],
    print_table: Callable[[], None],
    *,
    per_query: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    if per_query == jsonl.STDIN:
        ui.print_records(records)
        return
    if as_json:
        ui.print_json(summary)
    else:
        print_table()
    if per_query:
        ui.note(f"{jsonl.write(per_query, records, force=force)} records in {per_query}")


def _print_metrics(result: Evaluation) -> None:
    policies, retrievers = (ui.visible(", ".join(names)) for names in (result.policies, result.retrievers))
    ui.note(f"{result.n} generations for {result.users} users; policy {policies}; retriever {retrievers}")
    rows = [
        (metric, f"{summary.mean:.4f}", f"{summary:.4f}", summary.n) if summary else (metric, "n/a", "n/a", 0)
        for metric, summary in result.metrics.items()
    ]
    ui.print_table(["metric", "mean", "95 % interval", "n"], rows)


def _print_retrieval(result: RetrievalQuality) -> None:
    from prlm_cli.pipeline.retrieval_quality import MEASURES

    left_out = f"; left out {result.without_target} queries without a target" if result.without_target else ""
    ui.note(f"{result.n} queries of {result.users} users, at most {result.k} records each{left_out}")
    for found in result.retrievers:
        if found.empty:
            ui.note(f"{ui.visible(found.retriever)}: no records for {found.empty} queries, which score 0")
    chosen = result.retrievers[0].retriever
    header = ["retriever", "overlap", "value", "95 % interval", f"{chosen} - it", "95 % interval", "n", "users"]
    ui.print_table(header, [_row(found, measure) for measure in MEASURES for found in result.retrievers])


def _row(found: RetrieverQuality, measure: str) -> list[str]:
    value: Interval = getattr(found.overlap, measure)
    minus: Interval | None = getattr(found.chosen_minus, measure, None)
    return [
        found.retriever,
        measure.replace("_", " "),
        f"{value.mean:.4f}",
        f"{value:.4f}",
        f"{minus.mean + 0.0:+.4f}" if minus else "",
        f"{minus:+.4f}" if minus else "",
        str(value.n),
        str(value.users),
    ]
