"""Batches of queries: beside the alternatives at two lengths of history, and at three sizes of the store."""

from __future__ import annotations

from functools import partial
from itertools import accumulate
from statistics import mean, median

from prlm_cli.core import jsonl
from prlm_cli.core.workspace import Workspace
from tests.bench.figures import Figures, interleaved, progress, ratio, timed
from tests.bench.processes import prlm, run
from tests.bench.retrieval_parts.alternatives import (
    SharedIndex,
    bm25s_per_query,
    compile_shared_index,
    rank_bm25_per_query,
)
from tests.bench.retrieval_parts.stores import SIZES, Bench, Indexed, K, text_of

_ALTERNATIVES = ("rank_bm25", "bm25s_global", "bm25s_per_user")


def measure_batch(bench: Bench, figures: Figures) -> None:
    """Batches against the alternatives, at two lengths of history: their time over ours.

    The building of the shared index is not counted; `batch_vs_bm25s_global` and `batch_vs_bm25s_per_user` are the lower
    of the two.
    """
    for label, indexed in {"23docs": bench.by_size["100k"], "90docs": bench.many}.items():
        _compare_batch(bench, indexed, label, figures)
    for name in _ALTERNATIVES[1:]:
        figures.add(f"batch_vs_{name}", min(figures[f"batch_vs_{name}_{label}"] for label in ("23docs", "90docs")), "x")
    _batch_by_size(bench, figures)
    _equal_history(bench, figures)


def _compare_batch(bench: Bench, indexed: Indexed, label: str, figures: Figures) -> None:
    corpus = indexed.corpus
    users = bench.askers(indexed)
    queries = [query for user in users for query in corpus.queries(user)]
    texts = [text_of(document) for user in range(len(corpus.sizes)) for document in corpus.documents(user)]
    ends = list(accumulate(corpus.sizes))
    ranges = [range(ends[user] - corpus.sizes[user], ends[user]) for user in users]
    asked = [([texts[n] for n in own], query.text) for own, query in zip(ranges, queries, strict=True)]
    masked = [(own, query.text) for own, query in zip(ranges, queries, strict=True)]
    compile_shared_index()
    shared = SharedIndex(texts)
    measures = {
        "prlm": indexed.retrieval(queries),
        "rank_bm25": timed(lambda: [rank_bm25_per_query(own, text, K) for own, text in asked]),
        "bm25s_global": timed(lambda: list(shared.best_of_ranges(masked, K))),
        "bm25s_per_user": timed(lambda: [bm25s_per_query(own, text, K) for own, text in asked]),
    }
    progress(f"{len(queries)} queries over {len(corpus)} documents")
    taken = interleaved(bench.scale.rounds, measures)
    figures.add(f"batch_mean_history_{label}", mean(len(own) for own in ranges), "documents")
    for name, seconds in taken.items():
        figures.add(f"batch_ms_a_query_{name}_{label}", 1000 * median(seconds) / len(queries), "ms")
    for name in _ALTERNATIVES:
        figures.add(f"batch_vs_{name}_{label}", ratio(taken[name], taken["prlm"]), "x")


def _batch_by_size(bench: Bench, figures: Figures) -> None:
    measures, commands, opens, counts = {}, {}, {}, {}
    for size, indexed in bench.by_size.items():
        queries = [query for user in bench.askers(indexed) for query in indexed.corpus.queries(user)]
        path = bench.folder / f"queries-{size}.jsonl"
        jsonl.write(path, queries, force=True)
        output = bench.folder / f"retrieved-{size}.jsonl"
        command = prlm("retrieve", path, "-w", indexed.workspace.folder, "-k", K, "-o", output, "--force", "-q")
        measures[size], commands[size], counts[size] = indexed.retrieval(queries), partial(run, command), len(queries)
        opens[size] = timed(partial(_open, indexed.workspace))
    for size, seconds in interleaved(bench.scale.rounds, measures).items():
        figures.add(f"batch_queries_per_s_{size}", counts[size] / median(seconds), "queries/s")
    for size, usages in interleaved(1, commands).items():
        figures.add(f"batch_mb_of_memory_{size}", usages[0].peak_mb, "MB")
    for size, seconds in interleaved(bench.scale.rounds, opens).items():
        figures.add(f"open_store_ms_{size}", 1000 * median(seconds), "ms")


def _open(workspace: Workspace) -> None:
    with workspace.open_store():
        pass


def _equal_history(bench: Bench, figures: Figures) -> None:
    """The time of a query of users with equally long histories, one query each."""
    asked = {
        size: [query for user in indexed.probes() for query in indexed.corpus.queries(user)]
        for size, indexed in bench.by_size.items()
    }
    measures = {size: bench.by_size[size].retrieval(queries) for size, queries in asked.items()}
    taken = interleaved(2 * bench.scale.rounds, measures)
    taken = {size: [seconds / len(asked[size]) for seconds in taken[size]] for size in SIZES}
    for size in SIZES:
        figures.add(f"equal_history_ms_a_query_{size}", 1000 * median(taken[size]), "ms")
    figures.add("equal_history_1m_vs_10k", ratio(taken["1m"], taken["10k"]), "x")
