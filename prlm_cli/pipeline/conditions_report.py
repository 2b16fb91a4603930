"""Several conditions of one policy (controls, a sweep, attacks) as a table and as a page of HTML; figures only."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from markupsafe import Markup

from prlm_cli.core.settings import Config
from prlm_cli.metrics.intervals import Interval
from prlm_cli.pipeline.attacks import Change
from prlm_cli.pipeline.compare import Comparison
from prlm_cli.pipeline.evaluate import Evaluation
from prlm_cli.report.charts import Axis, Line, line_chart, ticks
from prlm_cli.report.estimates import Estimate, estimates
from prlm_cli.report.page import Card, cards, figures, heading, page, paragraph
from prlm_cli.report.table import Table

_CURVE_OVER = "k"


class ConditionScores(Protocol):
    """What the generations of one condition scored.

    `facts` are what it sets, such as {"k": 4, "retriever": "bm25"}. `difference` compares it, metric by metric, with
    the reference, which has none.
    """

    @property
    def name(self) -> str:
        """What people call the condition."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """The settings that make it."""

    @property
    def evaluation(self) -> Evaluation:
        """Its scores."""

    @property
    def difference(self) -> Mapping[str, Comparison]:
        """The condition minus the reference; empty for the reference itself."""


def condition_table(results: Sequence[ConditionScores], metric: str) -> Table:
    """A row a condition: its mean on a metric, and how far it is from the reference."""
    header = [metric, "mean", "95 % interval", "- reference", "95 % interval", "p", "n"]
    return Table(header, [[result.name, *_cells(result, metric)] for result in results])


def gain_table(gains: Mapping[str, Interval], metric: str) -> Table:
    """A row a gain on a metric."""
    rows = [[name, f"{gain.mean + 0.0:+.4f}", f"{gain:+.4f}", str(gain.n)] for name, gain in gains.items()]
    return Table(["gain", metric, "95 % interval", "n"], rows)


def change_table(changes: Mapping[str, Change]) -> Table:
    """A row an attack: what it did to the answers."""
    rows = [
        [name, *(text for measure in Change.__struct_fields__ for text in _measure(getattr(change, measure)))]
        for name, change in changes.items()
    ]
    header = ["attack", *(text for measure in Change.__struct_fields__ for text in (measure, "95 % interval"))]
    return Table(header, rows)


def _measure(found: Interval | None) -> tuple[str, str]:
    return ("", "") if found is None else (f"{found.mean + 0.0:.2f}", f"{found:.2f}")


def html_report(
    title: str,
    reference: str,
    results: Sequence[ConditionScores],
    gains: Mapping[str, Interval],
    config: Config,
) -> str:
    """The page about conditions: gains, means, differences to the reference, and curves over k where k varies.

    Args:
        title: Of the page.
        reference: The name of the condition that the others are compared with.
        results: In the order to show; all scored on the same metrics.
        gains: Named differences, on the first metric.
        config: Its `eval` and `seed` settings.
    """
    metrics = list(results[0].evaluation.metrics)
    parts = [paragraph(f"Each condition is compared with {reference}."), *_gains(gains, metrics[0])]
    for metric in metrics:
        parts += [heading(metric), *_about(metric, results)]
    facts = [f"seed {config.seed}", f"{config.eval.bootstrap} resamples of users behind each interval"]
    return page(title, parts, facts=facts)


def _gains(gains: Mapping[str, Interval], metric: str) -> Iterator[Markup]:
    if gains:
        yield cards(Card(name, f"{gain.mean + 0.0:+.4f}", f"{metric} {gain:+.4f}") for name, gain in gains.items())


def _about(metric: str, results: Sequence[ConditionScores]) -> Iterator[Markup]:
    """The means on one metric, the differences to the reference, and the curves."""
    rows = [_estimate(result.name, result.evaluation.metrics[metric]) for result in results]
    yield estimates([metric, "mean", "95 % interval"], rows)
    compared = [result for result in results if metric in result.difference]
    if compared:
        differences = [(result, result.difference[metric].difference) for result in compared]
        shown = [Estimate(r.name, d.mean, d.low, d.high, _cells(r, metric)[2:]) for r, d in differences]
        yield estimates([f"{metric}, minus the reference", *condition_table([], metric).header[3:]], shown, reference=0)
    if chart := _curve(metric, results):
        yield figures([chart])


def _estimate(name: str, found: Interval | None) -> Estimate:
    if found is None:
        return Estimate(name, math.nan, math.nan, math.nan, ["n/a", "n/a"])
    return Estimate(name, found.mean, found.low, found.high, [f"{found.mean:.4f}", f"{found:.4f}"])


def _cells(result: ConditionScores, metric: str) -> list[str]:
    found, compared = result.evaluation.metrics[metric], result.difference.get(metric)
    mean = [f"{found.mean:.4f}", f"{found:.4f}"] if found else ["n/a", "n/a"]
    if compared is None:
        return [*mean, "", "", "", str(result.evaluation.n)]
    difference = compared.difference
    return [*mean, f"{difference.mean + 0.0:+.4f}", f"{difference:+.4f}", f"{compared.p:.4f}", str(difference.n)]


def _curve(metric: str, results: Sequence[ConditionScores]) -> Markup | None:
    """The mean over k, a line for each combination of the other facts; None unless two values of k are there."""
    lines: dict[str, list[tuple[float, Interval]]] = {}
    for result in results:
        found = result.evaluation.metrics[metric]
        k = result.facts.get(_CURVE_OVER)
        if found is not None and k is not None:
            others = [str(value) for key, value in result.facts.items() if key != _CURVE_OVER]
            lines.setdefault(", ".join(others) or metric, []).append((float(k), found))
    places = sorted({k for points in lines.values() for k, _ in points})
    if len(places) < 2:
        return None
    drawn = [_line(label, sorted(points, key=lambda point: point[0])) for label, points in lines.items()]
    ends = [end for line in drawn for _, *edges in line.band for end in edges if math.isfinite(end)]
    ends += [value for line in drawn for _, value in line.points]
    x = Axis("records retrieved, k", [(k, f"{k:g}") for k in places])
    return line_chart(f"{metric} over k, with 95 % intervals", drawn, x, Axis(metric, ticks(min(ends), max(ends))))


def _line(label: str, points: Sequence[tuple[float, Interval]]) -> Line:
    means = [(k, found.mean) for k, found in points]
    return Line(label, means, band=[(k, found.low, found.high) for k, found in points])
