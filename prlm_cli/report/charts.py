"""Small charts with their captions: figures of inline SVG, in the colours of the page they stand in."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

from markupsafe import Markup, escape

_WIDTH, _HEIGHT = 360, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 12, 12, 40
_ROW = 16  # height of a line of the legend
_COLORS = 6  # that the style sheet knows
_MOST_MARKS = 20  # points of a line that get a mark each
_MOST_BARS = 300  # a bar is then a unit wide


class Line(NamedTuple):
    """A line of a chart, with a band from low to high around it where one is given, as (x, low, high).

    A `reference` is dashed and without marks, as what the others are held against; a `thin` one, such as of raw values,
    has the colour of the line after it.
    """

    label: str
    points: Sequence[tuple[float, float]]
    kind: Literal["line", "reference", "thin"] = "line"
    band: Sequence[tuple[float, float, float]] = ()


class Axis(NamedTuple):
    """An axis: its label, and its ticks from the lowest to the highest, each a position and what is written there."""

    label: str
    ticks: Sequence[tuple[float, str]]


class Bar(NamedTuple):
    """A bar from 0 to `value`, with its interval where it is known."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None


def line_chart(title: str, lines: Sequence[Line], x: Axis, y: Axis) -> Markup:
    """A figure of the lines, with a legend where there is more than one; without points, an empty frame."""
    parts, legend = [_frame(x, y)], []
    color = 0
    for line in lines:
        if line.kind == "reference":
            look = "reference"
        else:
            look = f"line{color % _COLORS}"
            color += line.kind == "line"
        parts += _drawn(line, look, x, y)
        legend += [(line.label, look)] if line.kind != "thin" else []
    height = _HEIGHT
    if len(legend) > 1:
        parts += [_legend(row, label, look) for row, (label, look) in enumerate(legend)]
        height += _ROW * len(legend)
    return _figure(title, height, parts)


def bar_chart(title: str, bars: Sequence[Bar], x_label: str, y_label: str) -> Markup:
    """A figure of the bars, highest first: those above 0 in one colour, those below in another.

    Of more than 300, neighbours are drawn as one bar of their mean.
    """
    ordered = _merged(sorted(bars, key=lambda bar: -bar.value))
    ends = [end for bar in ordered for end in (bar.value, bar.low, bar.high) if end is not None and math.isfinite(end)]
    y = Axis(y_label, ticks(min([0.0, *ends]), max([0.0, *ends])))
    parts = [_frame(Axis(x_label, [(0, "1"), (max(1, len(bars)), str(len(bars)))]), y)]
    step = (_WIDTH - _LEFT - _RIGHT) / max(1, len(ordered))
    for place, bar in enumerate(ordered):
        parts += _bar(bar, _LEFT + place * step, step, y)
    zero = _height(0, y)
    parts.append(f'<path class="axis" d="M{_LEFT} {zero}H{_WIDTH - _RIGHT}"/>')
    return _figure(title, _HEIGHT, parts)


def steps(low: float, high: float, count: int = 5) -> list[tuple[float, str]]:
    """Evenly spaced ticks from `low` to `high`, written with two decimals; one where these are the same."""
    if high <= low:
        return [(low, f"{low:.2f}")]
    return [(value, f"{value:.2f}") for n in range(count) for value in [low + (high - low) * n / (count - 1)]]


def ticks(low: float, high: float, count: int = 5) -> list[tuple[float, str]]:
    """About `count` ticks at round values, the first not above `low` and the last not below `high`."""
    if high <= low:
        return [(low, f"{low:.3g}")]
    rough = (high - low) / count
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * times for times in (1, 2, 5, 10) if size * times >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    digits = max(0, -math.floor(math.log10(step)))
    return [(n * step, f"{n * step:.{digits}f}") for n in range(first, last + 1)]


def _figure(title: str, height: int, parts: Sequence[str]) -> Markup:
    name, inside = escape(title), "".join(parts)
    svg = f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{name}">{inside}</svg>'
    return Markup(f"<figure>{svg}<figcaption>{name}</figcaption></figure>")


def _drawn(line: Line, look: str, x: Axis, y: Axis) -> Iterator[str]:
    def at(left: float, top: float) -> str:
        return f"{_place(left, x, _LEFT, _WIDTH - _RIGHT)},{_height(top, y)}"

    bounded = [edge for edge in line.band if math.isfinite(edge[1]) and math.isfinite(edge[2])]
    if bounded:
        around = [at(left, low) for left, low, _ in bounded] + [at(left, high) for left, _, high in reversed(bounded)]
        yield f'<polygon class="band {look.replace("line", "fill")}" points="{" ".join(around)}"/>'
    places = [at(*point) for point in line.points]
    thin = " thin" if line.kind == "thin" else ""
    yield f'<polyline class="{look}{thin}" points="{" ".join(places)}"/>'
    if line.kind == "line" and len(places) <= _MOST_MARKS:
        for place in places:
            left, top = place.split(",")
            yield f'<circle class="{look.replace("line", "fill")}" cx="{left}" cy="{top}" r="3"/>'


def _bar(bar: Bar, left: float, step: float, y: Axis) -> Iterator[str]:
    top, bottom = sorted([float(_height(0, y)), float(_height(bar.value, y))])
    color = "fill0" if bar.value >= 0 else "fill1"
    width = max(0.6, step * 0.8)
    name = escape(f"{bar.label}: {bar.value:+.4f}")
    size = f'width="{width:.1f}" height="{bottom - top:.1f}"'
    yield f'<rect class="{color}" x="{left:.1f}" y="{top:.1f}" {size}><title>{name}</title></rect>'
    if bar.low is not None and bar.high is not None and math.isfinite(bar.low) and math.isfinite(bar.high):
        yield f'<path class="whisker" d="M{left + width / 2:.1f} {_height(bar.low, y)}V{_height(bar.high, y)}"/>'


def _merged(bars: Sequence[Bar]) -> Sequence[Bar]:
    if len(bars) <= _MOST_BARS:
        return bars
    cuts = [len(bars) * n // _MOST_BARS for n in range(_MOST_BARS + 1)]
    groups = [bars[start:end] for start, end in pairwise(cuts)]
    return [Bar(f"mean of {len(group)}", math.fsum(bar.value for bar in group) / len(group)) for group in groups]


def _height(value: float, y: Axis) -> str:
    return _place(value, y, _HEIGHT - _BOTTOM, _TOP)


def _place(value: float, axis: Axis, start: int, end: int) -> str:
    low, high = axis.ticks[0][0], axis.ticks[-1][0]
    share = (value - low) / (high - low) if high > low else 0.5
    return f"{start + share * (end - start):.1f}"


def _frame(x: Axis, y: Axis) -> str:
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    parts = [f'<path class="axis" d="M{_LEFT} {_TOP}V{bottom}H{right}"/>']
    for value, text in x.ticks:
        left = _place(value, x, _LEFT, right)
        parts.append(f'<text x="{left}" y="{bottom + 15}" text-anchor="middle">{escape(text)}</text>')
    for value, text in y.ticks:
        top = _place(value, y, bottom, _TOP)
        parts.append(f'<path class="grid" d="M{_LEFT} {top}H{right}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{top}" dy="4" text-anchor="end">{escape(text)}</text>')
    middle = (_LEFT + right) // 2
    parts.append(f'<text x="{middle}" y="{_HEIGHT - 6}" text-anchor="middle">{escape(x.label)}</text>')
    parts.append(f'<text x="{-(_TOP + bottom) // 2}" y="12" transform="rotate(-90)" text-anchor="middle">')
    parts.append(f"{escape(y.label)}</text>")
    return "".join(parts)


def _legend(row: int, label: str, look: str) -> str:
    top = _HEIGHT + 6 + _ROW * row
    return f'<path class="{look}" d="M{_LEFT} {top}h24"/><text x="{_LEFT + 32}" y="{top}" dy="4">{escape(label)}</text>'
