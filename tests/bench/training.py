"""Training beside stock TRL: how much faster and smaller, that it is the same, and what `prlm plan` says beside it.

    python -m tests.bench.training [--json] [--data DIR] [--only NAME ...] [--rounds N]

The embedded model with an adapter, in fp32 on one thread of the CPU, and random models where bytes are counted; times
are CPU times, both sides taken in turn. Where there is a GPU, 4-bit models of 0.5B to 7B on it. About ten minutes, no
network. The parts: `plan`, `scoring` (forward and backward pass), `rollouts`, `step` (whole optimiser steps),
`precision` (ours in bf16 beside ours in fp32), `cuda`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from prlm_cli.models.quiet import quiet_libraries
from tests.bench.figures import Figures, progress
from tests.bench.training_parts import cuda, drawing, plan, precision, scoring, sides, step

DATA = Path(__file__).parents[3] / "shared" / "data" / "commits"
PARTS = ("plan", "scoring", "rollouts", "step", "precision", "cuda")
AIMS = {
    **{f"limit_share_{size.name}": "≥ 0.8" if size.group == 8 else "≥ 0.72" for size in sides.SIZES},
    "rollout_speedup_320_48_8": "≥ 1.4",
    "rollout_speedup_1024_64_8": "≥ 2",
    "step_speedup": "≥ 3",
    "step_speedup_head_on_completions": "≥ 2.5",
    f"saved_bytes_ratio_{scoring.SAVED_BYTES.name}": "≤ 0.35",
    "logp_max_difference": "≤ 1e-4",
    "grad_relative_error": "≤ 1e-4",
    **dict.fromkeys(plan.ERRORS, "≤ 0.15"),
    "cuda_plan_error": "≤ 0.15",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, and prints tables, or with `--json` JSON alone."""
    given = _parse(arguments)
    torch.set_num_threads(1)
    figures = Figures()
    with quiet_libraries():
        for name in given.only:
            progress(name)
            _measure(name, figures, given)
    names = [size.name for size in sides.SIZES]
    sys.stdout.write(figures.as_json() + "\n" if given.json else figures.as_tables(AIMS, names))


def _measure(name: str, figures: Figures, given: argparse.Namespace) -> None:
    if name == "plan":
        plan.measure(figures)
    elif name == "scoring":
        scoring.measure_scoring(figures, given.rounds)
    elif name == "rollouts":
        drawing.measure_rollouts(figures, 1)
    elif name == "step":
        with tempfile.TemporaryDirectory(prefix="prlm-bench-") as folder:
            step.measure_step(figures, 1, given.data, Path(folder))
    elif name == "precision":
        precision.measure_precision(figures, given.rounds)
    else:
        cuda.measure_cuda(figures, given.rounds)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.training", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON alone on stdout")
    parser.add_argument("--data", type=Path, default=DATA, help="a folder with profiles.jsonl and queries.train.jsonl")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="NAME", help=", ".join(PARTS))
    parser.add_argument("--rounds", type=int, default=2, help="how often each forward and backward pass is timed")
    given = parser.parse_args(arguments)
    if "step" in given.only and not (given.data / "queries.train.jsonl").exists():
        parser.error(f"no queries.train.jsonl in {given.data}; name a folder of real queries with --data")
    return given


if __name__ == "__main__":
    main()
