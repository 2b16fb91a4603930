"""Rank correlations: whether two numbers order the same things alike. Both count ties as scipy does."""

from __future__ import annotations

import math
from collections.abc import Sequence


def spearman(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Spearman's rho of paired numbers, in [-1, 1]; None where either is constant, or there are fewer than two.

    The correlation of the ranks; equal numbers share the mean of theirs. Source: Spearman (1904).
    """
    return _correlation(_ranks(a), _ranks(b))


def kendall(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Kendall's tau-b of paired numbers, in [-1, 1]; None where either is constant, or there are fewer than two.

    Every pair of rows is looked at, so it is for short lists. Source: Kendall (1945), the form that allows for ties.
    """
    pairs = list(zip(a, b, strict=True))
    agree = a_differs = b_differs = 0
    for n, (x, y) in enumerate(pairs):
        for other_x, other_y in pairs[:n]:
            sign_a, sign_b = (x > other_x) - (x < other_x), (y > other_y) - (y < other_y)
            agree += sign_a * sign_b
            a_differs += sign_a != 0
            b_differs += sign_b != 0
    return agree / math.sqrt(a_differs * b_differs) if a_differs and b_differs else None


def _ranks(values: Sequence[float]) -> list[float]:
    """The rank of each value from 1 up, the mean of their ranks for equal ones."""
    order = sorted(range(len(values)), key=values.__getitem__)
    ranks = [0.0] * len(values)
    start = 0
    while start < len(order):
        end = start
        while end < len(order) and values[order[end]] == values[order[start]]:
            end += 1
        for n in order[start:end]:
            ranks[n] = (start + 1 + end) / 2
        start = end
    return ranks


def _correlation(a: Sequence[float], b: Sequence[float]) -> float | None:
    pairs = list(zip(a, b, strict=True))
    if len(pairs) < 2:
        return None
    mean_a, mean_b = math.fsum(a) / len(pairs), math.fsum(b) / len(pairs)
    spread_a, spread_b = (math.fsum((x - mean) ** 2 for x in of) for of, mean in ((a, mean_a), (b, mean_b)))
    if not spread_a or not spread_b:
        return None
    shared = math.fsum((x - mean_a) * (y - mean_b) for x, y in pairs)
    return max(-1.0, min(1.0, shared / math.sqrt(spread_a * spread_b)))
