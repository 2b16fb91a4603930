"""Estimates with their intervals on one scale, a row each (a forest plot)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

from prlm_cli.report.charts import ticks
from prlm_cli.report.templates import render

_WIDTH = 200  # of the scale, in units of the picture


class Estimate(NamedTuple):
    """One row: its label, the estimate (nan for none), its interval (perhaps unbounded), and figures to print."""

    label: str
    value: float
    low: float
    high: float
    figures: Sequence[str]


def estimates(header: Sequence[str], rows: Sequence[Estimate], *, reference: float | None = None) -> Markup:
    """A table of the rows: label, interval on the common scale, figures.

    Args:
        header: Of the label and of each figure.
        rows: What is estimated.
        reference: A value to mark, such as 0 for "no difference". What lies further than 1 from 0, such as a count of
            words, has another scale than scores, and is left to the figures.
    """
    drawn = [row for row in rows if abs(row.value) <= 1]
    ends = [end for row in drawn for end in (row.value, row.low, row.high) if math.isfinite(end)]
    ends += [reference] if reference is not None else []
    marks = ticks(min(ends, default=0.0), max(ends, default=1.0))
    low, high = marks[0][0], marks[-1][0]

    def at(value: float) -> float:
        share = (value - low) / (high - low) if high > low else 0.5
        return round(_WIDTH * min(1.0, max(0.0, share)), 1)

    places = [(row, at(row.value), at(row.low), at(row.high)) if row in drawn else (row, None, 0, 0) for row in rows]
    return render(
        "estimates",
        header=header,
        rows=places,
        ends=[(at(value), text) for value, text in (marks[0], marks[-1])],
        reference=None if reference is None else at(reference),
        width=_WIDTH,
    )
