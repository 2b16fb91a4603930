"""How often 95 % intervals hold the truth, and how often the paired test sees a difference where there is none.

Each figure is the share of 10,000 simulated data sets whose truth is known, through the functions that `prlm` uses. By
chance alone a true 95 % comes out between 94.6 and 95.4 %, a true 5 % between 4.6 and 5.4 %.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from prlm_cli.metrics.intervals import Interval, mean_interval, paired_interval, statistic_interval
from prlm_cli.metrics.permutation import paired_permutation_p
from tests.bench.figures import Figures

DRAWS = 10_000
_RESAMPLES = 1000
_EFFECT = 0.3


class Rows(NamedTuple):
    """One simulated data set: a number a row, and whose row it is."""

    values: list[float]
    user_ids: list[str]


Simulation = Callable[[np.random.Generator], Rows]
Values = Callable[[np.random.Generator, NDArray[Any], int], NDArray[Any]]  # of whose each row is, of so many users
Sizes = Callable[[np.random.Generator, int], NDArray[Any]]  # the number of rows of so many users


def add_intervals(figures: Figures, draws: int = DRAWS) -> None:
    """Adds `coverage` and `false_positive_rate`, and the same of fewer users and of harder data."""
    for name, simulate in _NORMAL.items():
        figures.add(f"coverage{name}", _coverage(_difference(simulate), draws, _EFFECT), "share")
    for name, (simulate, truth) in _HARDER.items():
        figures.add(f"coverage_{name}", _coverage(_mean(simulate), draws, truth), "share")
    truth = math.sqrt(_EFFECT**2 + 1.0**2 + 0.5**2)
    figures.add("coverage_rmse_40_users", _coverage(_rmse(_NORMAL["_40_users"]), draws, truth), "share")
    for name, simulate in _NORMAL.items():
        figures.add(f"false_positive_rate{name}", _false_positives(simulate, draws), "share")


def _coverage(interval_of: Callable[[int], Interval], draws: int, truth: float) -> float:
    return _share(interval.low <= truth <= interval.high for interval in map(interval_of, range(draws)))


def _false_positives(simulate: Simulation, draws: int) -> float:
    """How often p is at most 0.05 where two policies differ by chance alone, for each user otherwise."""

    def p_of(draw: int) -> float:
        values, user_ids = simulate(_rng(draw))
        null = [value - _EFFECT for value in values]
        return paired_permutation_p(null, [0.0] * len(null), user_ids, resamples=_RESAMPLES, seed=draw)

    return _share(p_of(draw) <= 0.05 for draw in range(draws))


def _share(hits: Iterable[bool]) -> float:
    found = list(hits)
    return sum(found) / len(found)


def _rng(draw: int) -> np.random.Generator:
    """Of the data; the draw alone seeds the resamples, which must not follow the data."""
    return np.random.default_rng([draw, 1])


def _mean(simulate: Simulation) -> Callable[[int], Interval]:
    return lambda draw: mean_interval(*simulate(_rng(draw)), resamples=_RESAMPLES, seed=draw)


def _difference(simulate: Simulation) -> Callable[[int], Interval]:
    """The paired interval of two policies whose scores share what makes a query hard."""

    def interval_of(draw: int) -> Interval:
        rng = _rng(draw)
        values, user_ids = simulate(rng)
        b = rng.normal(0.0, 3.0, len(values))
        return paired_interval((b + values).tolist(), b.tolist(), user_ids, resamples=_RESAMPLES, seed=draw)

    return interval_of


def _rmse(simulate: Simulation) -> Callable[[int], Interval]:
    """The interval of a root of a mean of squares: a statistic that is no mean of scores."""

    def root(sums: NDArray[Any], /) -> Any:
        return np.sqrt(sums[..., 0] / sums[..., 1])

    def interval_of(draw: int) -> Interval:
        values, user_ids = simulate(_rng(draw))
        rows = np.array([[value * value, 1.0] for value in values])
        return statistic_interval(rows, user_ids, root, resamples=_RESAMPLES, seed=draw)

    return interval_of


def _simulation(values_of: Values, users: int, sizes_of: Sizes | None = None) -> Simulation:
    def simulate(rng: np.random.Generator) -> Rows:
        owners = np.repeat(np.arange(users), (sizes_of or _one_to_eight)(rng, users))
        return Rows(values_of(rng, owners, users).tolist(), [f"u{owner}" for owner in owners])

    return simulate


def _normal(rng: np.random.Generator, owners: NDArray[Any], users: int) -> NDArray[Any]:
    """Levels of users with standard deviation 1 around the effect; rows with 0.5 around their user's level."""
    return rng.normal(_EFFECT, 1.0, users)[owners] + rng.normal(0.0, 0.5, len(owners))


def _scores(rng: np.random.Generator, owners: NDArray[Any], users: int) -> NDArray[Any]:
    """Scores in [0, 1], most of them low and some 0, as ROUGE of short texts is; a user's resemble each other."""
    level = rng.beta(1.0, 5.0, users)[owners]
    return rng.beta(4 * level + 0.05, 4 * (1 - level) + 0.05)


def _hits(rng: np.random.Generator, owners: NDArray[Any], users: int) -> NDArray[Any]:
    """Hits and misses, one in ten a hit."""
    return (rng.random(len(owners)) < rng.beta(0.5, 4.5, users)[owners]).astype(float)


def _long_tail(rng: np.random.Generator, owners: NDArray[Any], users: int) -> NDArray[Any]:
    """Positive values of which a rare user has by far the highest (log-normal): the hardest case."""
    return rng.lognormal(0.0, 1.0, users)[owners]


def _one_to_eight(rng: np.random.Generator, users: int) -> NDArray[Any]:
    return rng.integers(1, 9, users)


def _few_with_most(rng: np.random.Generator, users: int) -> NDArray[Any]:
    """Pareto with exponent 1.2, at most 200 rows: the largest of 40 users has about a quarter of all rows."""
    return np.minimum(1 + rng.pareto(1.2, users), 200).astype(int)


_NORMAL = {
    "": _simulation(_normal, 100),
    "_40_users": _simulation(_normal, 40),
    "_20_users": _simulation(_normal, 20),
    "_10_users": _simulation(_normal, 10),
    "_unequal_users": _simulation(_normal, 40, _few_with_most),
}
_HARDER = {
    "scores_40_users": (_simulation(_scores, 40), (4 / 6 + 0.05) / 4.1),
    "hits_40_users": (_simulation(_hits, 40), 0.1),
    "long_tail_100_users": (_simulation(_long_tail, 100), math.exp(0.5)),
}
