"""Ingest: documents a second, memory and disk, beside a bm25s build; and adding a few documents to what is there."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

from prlm_cli.core import jsonl
from prlm_cli.core.records import Document
from prlm_cli.pipeline.index import index
from tests.bench.figures import Figures, interleaved, ratio, timed
from tests.bench.processes import Usage, python, run
from tests.bench.retrieval_parts.stores import SIZES, Bench, Indexed

_BUILD = Path(__file__).with_name("bm25s_build.py")


def measure_ingest(bench: Bench, figures: Figures) -> None:
    """Ingest at three sizes, and a bm25s build over the middle one, all in fresh processes.

    `ingest_vs_bm25s_build`: documents a second, ours over theirs; our whole process counts, of theirs only tokenising
    and indexing. `ingest_1m_vs_100k`: our documents a second, largest over middle size.
    """
    stores = bench.by_size
    *_, middle, large = (stores[size] for size in SIZES)
    around: dict[str, Callable[[], Usage]] = {size: stores[size].ingest for size in SIZES[:2]}
    around["bm25s"] = partial(run, python(_BUILD, middle.file))
    large.file  # noqa: B018 - written before anything is measured
    taken = interleaved(2, around)
    taken["1m"] = [large.ingest()]
    for name, more in interleaved(1, around).items():
        taken[name] += more
    for size in SIZES:
        count, input_bytes = len(stores[size].corpus), stores[size].file.stat().st_size
        wall = median(usage.wall for usage in taken[size])
        figures.add(f"documents_{size}", count, "documents")
        figures.add(f"ingest_docs_per_s_{size}", count / wall, "documents/s")
        figures.add(f"ingest_mb_per_s_{size}", input_bytes / 1e6 / wall, "MB/s")
        figures.add(f"ingest_mb_of_memory_{size}", max(usage.peak_mb for usage in taken[size]), "MB")
        figures.add(f"disk_bytes_a_document_{size}", _index_bytes(stores[size]) / count, "B")
        figures.add(f"input_bytes_a_document_{size}", input_bytes / count, "B")
    builds = [float(usage.stdout) for usage in taken["bm25s"]]
    figures.add("ingest_vs_bm25s_build", ratio(builds, [usage.wall for usage in taken["100k"]]), "x")
    figures.add("bm25s_build_docs_per_s", len(middle.corpus) / median(builds), "documents/s")
    figures.add("bm25s_build_mb_of_memory", max(usage.peak_mb for usage in taken["bm25s"]), "MB")
    growth = len(large.corpus) / len(middle.corpus)
    (whole,) = taken["1m"]
    figures.add("ingest_1m_vs_100k", growth * median(usage.wall for usage in taken["100k"]) / whole.wall, "x")
    figures.add("ingest_1m_vs_100k_by_cpu", growth * median(usage.cpu for usage in taken["100k"]) / whole.cpu, "x")
    figures.add("ingest_peak_mb", max(usage.peak_mb for size in SIZES for usage in taken[size]), "MB")


def _index_bytes(indexed: Indexed) -> int:
    path = indexed.workspace.index
    return sum(part.stat().st_size for part in path.parent.glob(f"{path.name}*"))


def measure_add(bench: Bench, figures: Figures) -> None:
    """Adding 100 documents to the histories of ten users, in this process."""
    numbers = iter(range(bench.scale.rounds))
    files = {size: partial(_more, bench.by_size[size], bench.folder) for size in SIZES}
    taken: dict[str, list[float]] = {size: [] for size in SIZES}
    for number in numbers:
        for size in SIZES:
            path = files[size](number)
            taken[size].append(timed(partial(index, bench.by_size[size].workspace, [path]))())
    for size in SIZES:
        figures.add(f"add_100_ms_{size}", 1000 * median(taken[size]), "ms")


def _more(indexed: Indexed, folder: Path, number: int) -> Path:
    """A file of 100 documents that the store does not hold yet."""
    corpus = indexed.corpus
    added = []
    for user in corpus.askers(10):
        for query in corpus.queries(user, 10):
            doc_id = f"more-{number}-{query.query_id}"
            added.append(Document(user_id=query.user_id, doc_id=doc_id, text=f"{query.text} {doc_id}", date=query.date))
    path = folder / "more.jsonl"
    jsonl.write(path, added, force=True)
    return path
