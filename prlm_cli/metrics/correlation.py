"""Rank correlations: whether two numbers order the same things alike. They are scipy's; None where there is none."""

from __future__ import annotations

from collections.abc import Sequence


def spearman(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Spearman's rho of paired numbers, in [-1, 1]; None where either is constant, or there are fewer than two."""
    from scipy.stats import spearmanr

    return float(spearmanr(a, b).statistic) if _vary(a, b) else None


def kendall(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Kendall's tau-b of paired numbers, in [-1, 1]; None where either is constant, or there are fewer than two."""
    from scipy.stats import kendalltau

    return float(kendalltau(a, b).statistic) if _vary(a, b) else None


def _vary(a: Sequence[float], b: Sequence[float]) -> bool:
    return len(set(a)) > 1 and len(set(b)) > 1
