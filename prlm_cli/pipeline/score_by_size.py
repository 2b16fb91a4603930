"""Scores against the size of what the policy could know of the user: where personalisation pays."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from markupsafe import Markup

from prlm_cli.metrics.intervals import mean_interval
from prlm_cli.report.charts import Axis, Line, line_chart, ticks

_MOST_GROUPS = 6


class Sized(NamedTuple):
    """A score, whose it is, and the size that it is set against."""

    size: int
    value: float
    user_id: str


def size_chart(
    title: str, label: str, metric: str, series: Mapping[str, Sequence[Sized]], resamples: int, seed: int
) -> Markup | None:
    """Means with 95 % intervals over users, by groups of sizes; None where all sizes are the same.

    Args:
        title: Of the chart.
        label: What the sizes are.
        metric: What the scores are.
        series: A line each.
        resamples: Behind each interval.
        seed: Of these.
    """
    sizes = sorted(row.size for rows in series.values() for row in rows)
    starts = _starts(sizes)
    if len(starts) < 2:
        return None
    lines = [_line(name, rows, starts, resamples, seed) for name, rows in series.items()]
    heights = [edge for line in lines for _, *edges in line.band for edge in edges if abs(edge) < float("inf")]
    heights += [value for line in lines for _, value in line.points]
    ends = [sizes[bisect_left(sizes, start) - 1] for start in [*starts[1:], sizes[-1] + 1]]
    spans = [f"{low}" if low == high else f"{low}-{high}" for low, high in zip(starts, ends, strict=True)]
    x = Axis(label, [(float(place), span) for place, span in enumerate(spans)])
    return line_chart(title, lines, x, Axis(metric, ticks(min(heights), max(heights))))


def _starts(sizes: Sequence[int]) -> list[int]:
    """The lowest size of each group: every size, or where there are many, groups of about as many rows each."""
    distinct = sorted(set(sizes))
    if len(distinct) <= _MOST_GROUPS:
        return distinct
    return sorted({sizes[len(sizes) * n // _MOST_GROUPS] for n in range(_MOST_GROUPS)})


def _line(name: str, rows: Sequence[Sized], starts: Sequence[int], resamples: int, seed: int) -> Line:
    groups: dict[int, list[Sized]] = {}
    for row in rows:
        groups.setdefault(bisect_right(starts, row.size) - 1, []).append(row)
    found = {
        place: mean_interval(
            [row.value for row in group], [row.user_id for row in group], resamples=resamples, seed=seed
        )
        for place, group in sorted(groups.items())
    }
    points = [(float(place), interval.mean) for place, interval in found.items()]
    return Line(name, points, band=[(float(place), one.low, one.high) for place, one in found.items()])
