"""One query in a fresh process: the command, the library alone, and bm25s over a file of this user's texts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median

from tests.bench.figures import Figures, interleaved, ratio
from tests.bench.processes import Usage, prlm, python, run
from tests.bench.retrieval_parts.stores import SIZES, Bench, K, text_of

_PROGRAM = Path(__file__).with_name("one_query.py")


def measure_oneshot(bench: Bench, figures: Figures) -> None:
    """One query in a fresh process: the command, the library alone, and bm25s over a file of this user's texts.

    `oneshot_1m_vs_10k`: the command's wall time. `oneshot_cpu_vs_bm25s`: the library's CPU time at the largest size
    over that of bm25s; `..._with_typer`: the command's.
    """
    commands = {"python": python("-c", "pass")}
    for size, indexed in bench.by_size.items():
        user, workspace = indexed.probes()[0], indexed.workspace.folder
        (query,) = indexed.corpus.queries(user)
        texts = bench.folder / f"one-user-{size}.json"
        texts.write_text(json.dumps([text_of(document) for document in indexed.corpus.documents(user)]))
        commands[f"command_{size}"] = prlm(
            "retrieve", "-w", workspace, "--user", query.user_id, "--text", query.text, "-k", K
        )
        commands[f"library_{size}"] = python(_PROGRAM, "prlm", workspace, query.user_id, query.text)
        commands["bm25s"] = python(_PROGRAM, "bm25s", texts, query.text)
    interleaved(1, {name: partial(run, command) for name, command in commands.items()})  # fills the page cache
    taken = interleaved(bench.scale.rounds, {name: partial(run, command) for name, command in commands.items()})
    for size in SIZES:
        for figure, name in (("oneshot", f"command_{size}"), ("oneshot_library", f"library_{size}")):
            _add_usage(figures, figure, taken[name], f"_{size}")
    for name in ("bm25s", "python"):
        _add_usage(figures, f"oneshot_{name}", taken[name], "")
    walls = {name: [usage.wall for usage in usages] for name, usages in taken.items()}
    cpus = {name: [usage.cpu for usage in usages] for name, usages in taken.items()}
    figures.add("oneshot_1m_vs_10k", ratio(walls["command_1m"], walls["command_10k"]), "x")
    figures.add("oneshot_cpu_vs_bm25s", ratio(cpus["library_1m"], cpus["bm25s"]), "x")
    figures.add("oneshot_cpu_vs_bm25s_with_typer", ratio(cpus["command_1m"], cpus["bm25s"]), "x")


def _add_usage(figures: Figures, name: str, usages: Sequence[Usage], ending: str) -> None:
    figures.add(f"{name}_wall_ms{ending}", 1000 * median(usage.wall for usage in usages), "ms")
    figures.add(f"{name}_cpu_ms{ending}", 1000 * median(usage.cpu for usage in usages), "ms")
    figures.add(f"{name}_mb_of_memory{ending}", max(usage.peak_mb for usage in usages), "MB")
