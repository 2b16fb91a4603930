"""How fast and exact metrics are beside the libraries that define them, and how often intervals and tests are wrong.

    python -m tests.bench.evaluation [--json] [--data DIR] [--only metrics|intervals]

The sides of a comparison take turns on the same data, and its figure is the median of the rounds' own ratios.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.bench.figures import Figures, progress

DATA = Path(__file__).parents[3] / "shared" / "data"
PARTS = ("metrics", "intervals")
AIMS = {
    "rouge_speedup": "≥ 20",
    "rouge_max_difference": "≤ 1e-6",
    "metric_max_difference": "≤ 1e-6",
    "seconds_100k": "≤ 60",
    "coverage": "0.93 to 0.97",
    "false_positive_rate": "0.04 to 0.06",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, and prints tables, or with `--json` JSON alone."""
    given = _parse(arguments)
    figures = Figures()
    for part in PARTS:
        if given.only in (None, part):
            progress(part)
            _add(part, given.data, figures)
    sys.stdout.write(figures.as_json() + "\n" if given.json else figures.as_tables(AIMS, ()))


def _add(part: str, data: Path, figures: Figures) -> None:
    if part == "metrics":
        from tests.bench.evaluation_parts.metrics import add_metrics

        add_metrics(figures, data)
    else:
        from tests.bench.evaluation_parts.intervals import add_intervals

        add_intervals(figures)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.evaluation", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--json", action="store_true", help="print JSON alone on stdout")
    parser.add_argument("--data", type=Path, default=DATA, help="a folder of data sets with queries.*.jsonl each")
    parser.add_argument("--only", choices=PARTS, help="one part instead of both")
    given = parser.parse_args(arguments)
    if given.only != "intervals" and not any(given.data.glob("*/queries.*.jsonl")):
        parser.error(f"no queries in {given.data}; name a folder of data sets with --data")
    return given


if __name__ == "__main__":
    main()
