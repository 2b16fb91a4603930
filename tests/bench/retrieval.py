"""How fast, how small, how exact and how safe `prlm index` and `prlm retrieve` are, beside what else people do.

    pip install '.[bench]'
    python -m tests.bench.retrieval [--json] [--data DIR] [--only NAME ...] [--scale small|full] [--kills N]

Every comparison is on the same data in the same run, its sides take turns, and its figure is the median of the rounds'
own ratios. Our time includes reading the store and the texts of what is found; the alternatives are given all texts in
memory. Opening the store is a figure of its own. The full scale takes about 25 minutes on two cores, and 8 GB of disk.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from tests.bench.figures import Figures, progress
from tests.bench.retrieval_parts.stores import SCALES, SIZES, Bench

DATA = Path(__file__).parents[3] / "shared" / "data" / "acl"
PARTS = {
    "ingest": "ingest:measure_ingest",
    "batch": "batch:measure_batch",
    "oneshot": "oneshot:measure_oneshot",
    "never_slower": "never_slower:measure_never_slower",
    "exact": "exactness:measure_exact",
    "add": "ingest:measure_add",
    "forget": "forgetting:measure_forget",
    "kills": "kills:measure_kills",
}
"""Name -> module and function, in the order in which they run: what changes a store comes last."""
AIMS = {
    "batch_vs_rank_bm25_23docs": "≥ 5",
    "batch_vs_rank_bm25_90docs": "≥ 8",
    "batch_vs_bm25s_global": "≥ 2.5",
    "batch_vs_bm25s_per_user": "≥ 10",
    "never_slower_worst": "≥ 1",
    "oneshot_wall_ms_1m": "≤ 350",
    "oneshot_1m_vs_10k": "≤ 1.3",
    "oneshot_cpu_vs_bm25s": "≤ 0.1",
    "ingest_docs_per_s_100k": "≥ 25000",
    "ingest_vs_bm25s_build": "≥ 1.8",
    "ingest_1m_vs_100k": "≥ 0.85",
    "ingest_peak_mb": "≤ 250",
    "add_100_ms_1m": "≤ 50",
    "equal_history_1m_vs_10k": "≤ 2.5",
    "exact_same_order_share": "1",
    "exact_max_score_difference": "≤ 1e-9",
    "forget_seconds_3000": "≤ 0.2",
    "kills_survived_share": "1",
}
_BYTES_A_DOCUMENT = 7000  # on disk: the file, its index, and a second index while that is measured
_NEEDED = ("numba", "rank_bm25")
_NEED_THEM = {"batch", "never_slower"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, and prints tables, or with `--json` JSON alone."""
    given = _parse(arguments)
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing and _NEED_THEM & set(given.only):
        raise SystemExit(f"not installed: {', '.join(missing)}; try pip install '.[bench]'")
    scale = SCALES[given.scale]
    if given.kills is not None:
        scale = scale._replace(kills=given.kills)
    figures = Figures()
    with tempfile.TemporaryDirectory(prefix="prlm-bench-") as folder:
        if shutil.disk_usage(folder).free < _BYTES_A_DOCUMENT * sum(scale.documents):
            raise SystemExit(f"too little space in {folder}; set TMPDIR to another folder")
        bench = Bench(scale, given.data, Path(folder))
        for name, target in PARTS.items():
            if name in given.only:
                progress(name)
                _part(target)(bench, figures)
    sys.stdout.write(figures.as_json() + "\n" if given.json else figures.as_tables(AIMS, SIZES))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.retrieval", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--json", action="store_true", help="print JSON alone on stdout")
    parser.add_argument("--data", type=Path, default=DATA, help="a folder with profiles.jsonl and queries.*.jsonl")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="NAME", help=", ".join(PARTS))
    parser.add_argument("--scale", choices=SCALES, default="full", help="small takes two minutes, to try it")
    parser.add_argument("--kills", type=int, help="how many ingests to kill")
    given = parser.parse_args(arguments)
    if not (given.data / "profiles.jsonl").exists():
        parser.error(f"no profiles.jsonl in {given.data}; name a folder of real documents with --data")
    return given


def _part(target: str) -> Callable[[Bench, Figures], None]:
    module, function = target.split(":")
    measure: Callable[[Bench, Figures], None] = getattr(
        import_module(f"tests.bench.retrieval_parts.{module}"), function
    )
    return measure


if __name__ == "__main__":
    main()
