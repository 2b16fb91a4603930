"""What `prlm plan` says beside what training really takes.

    python -m tests.bench.training [--json]

Random models of a few layers on the CPU, one thread; about a minute, no network.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import torch

from tests.bench.figures import Figures
from tests.bench.training_parts import plan

AIMS = dict.fromkeys(plan.ERRORS, "≤ 0.15")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, and prints tables, or with `--json` JSON alone."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.training", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON alone on stdout")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    figures = Figures()
    plan.measure(figures)
    sys.stdout.write(figures.as_json() + "\n" if given.json else figures.as_tables(AIMS, ()))


if __name__ == "__main__":
    main()
