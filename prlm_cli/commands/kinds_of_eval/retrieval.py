"""`prlm eval --retrieval`: retrieved records instead of generations."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from prlm_cli import ui
from prlm_cli.commands import options
from prlm_cli.commands.kinds_of_eval.delivery import Delivery
from prlm_cli.core.settings import Config

if TYPE_CHECKING:
    from prlm_cli.metrics.intervals import Interval
    from prlm_cli.pipeline.retrieval_quality import RetrievalQuality, RetrieverQuality


def measure_retrieval(config: Config, folder: Path, source: Path | None, split: str, delivery: Delivery) -> None:
    """Measures the records of a file's queries, or of those of the index."""
    quality = _quality(config, folder, source, split)
    delivery.result(quality.as_dict(), quality.overlaps.records(), lambda: _print(quality, delivery))


def _quality(config: Config, folder: Path, source: Path | None, split: str) -> RetrievalQuality:
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


def _print(result: RetrievalQuality, delivery: Delivery) -> None:
    from prlm_cli.pipeline.retrieval_quality import MEASURES
    from prlm_cli.report.table import Table

    left_out = f"; left out {result.without_target} queries without a target" if result.without_target else ""
    ui.note(f"{result.n} queries of {result.users} users, at most {result.k} records each{left_out}")
    for found in result.retrievers:
        if found.empty:
            ui.note(f"{ui.visible(found.retriever)}: no records for {found.empty} queries, which score 0")
    chosen = result.retrievers[0].retriever
    header = ["retriever", "overlap", "value", "95 % interval", f"{chosen} - it", "95 % interval", "n", "users"]
    rows = [_row(found, measure) for measure in MEASURES for found in result.retrievers]
    delivery.table(Table(header, rows))


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
