"""Small line charts as inline SVG, in the colours of the page they stand in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup, escape

_WIDTH, _HEIGHT = 360, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 12, 12, 40


class Line(NamedTuple):
    """A line of a chart; `is_reference` draws it dashed and without marks, as what the others are held against."""

    label: str
    points: Sequence[tuple[float, float]]
    is_reference: bool = False


class Axis(NamedTuple):
    """An axis: its label, and its ticks from the lowest to the highest, each a position and what is written there."""

    label: str
    ticks: Sequence[tuple[float, str]]


def line_chart(title: str, lines: Sequence[Line], x: Axis, y: Axis) -> Markup:
    """An SVG element of the lines, with a legend where there is more than one; without points, an empty frame."""

    def at(point: tuple[float, float]) -> str:
        return f"{_place(point[0], x, _LEFT, _WIDTH - _RIGHT)},{_place(point[1], y, _HEIGHT - _BOTTOM, _TOP)}"

    parts = [_frame(x, y)]
    for number, line in enumerate(lines):
        places = [at(point) for point in line.points]
        kind = "reference" if line.is_reference else f"line{number}"
        parts.append(f'<polyline class="{kind}" points="{" ".join(places)}"/>')
        if not line.is_reference:
            spots = (place.split(",") for place in places)
            parts += [f'<circle class="{kind}" cx="{left}" cy="{top}" r="3"/>' for left, top in spots]
        if len(lines) > 1:
            parts.append(_legend(number, line.label, kind))
    name = escape(title)
    inside = "".join(parts)
    return Markup(f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{name}">{inside}</svg>')


def steps(low: float, high: float, count: int = 5) -> list[tuple[float, str]]:
    """Evenly spaced ticks from `low` to `high`, written with two decimals; one where these are the same."""
    if high <= low:
        return [(low, f"{low:.2f}")]
    return [(value, f"{value:.2f}") for n in range(count) for value in [low + (high - low) * n / (count - 1)]]


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


def _legend(number: int, label: str, kind: str) -> str:
    top = _TOP + 10 + 15 * number
    return (
        f'<path class="{kind}" d="M{_LEFT + 10} {top}h20"/>'
        f'<text x="{_LEFT + 36}" y="{top}" dy="4">{escape(label)}</text>'
    )
