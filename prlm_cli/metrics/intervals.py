"""Means and other statistics with 95 % intervals that take users, not rows, as the sample.

One user's rows resemble each other, so an interval from resampled rows would be too narrow: users are resampled, each
with all of its rows. The interval is wider than that of the plain percentile bootstrap, which covers the truth too
rarely where users are few, in two ways:

1. The percentiles are those at which the interval of a normal mean has the width of Student's t; source: Hesterberg,
   "What Teachers Should Know About the Bootstrap", The American Statistician 69 (2015), the expanded percentile.
2. The degrees of freedom are those of the effective number of users, (sum of rows)^2 / sum of rows^2: a few users
   with most of the rows count as few; source: Kish, Survey Sampling (1965), the effect of unequal weights.

Measured with normal levels of users and one to eight rows each, it covers 94 to 95 % from seven users on; where a few
users have most of the rows, 96 % (the plain one: 90). It keeps to what resampled users come to, so with fewer than six
it cannot cover as often: at least 2 ** (1 - users) of the intervals miss. It covers less, too, where a rare user has by
far the highest scores (log-normal levels of 100 users: 91 %); tests/bench/evaluation_parts measures all of these.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from prlm_cli.metrics.clusters import Clusters, Value, batches, sums_by_user

if TYPE_CHECKING:
    from numpy.typing import NDArray

_UPPER = 0.975  # of a 95 % interval
_Z = 1.959964


class Interval(msgspec.Struct, frozen=True):
    """A mean, or what else summed rows come to, over `n` rows of `users` users, with its 95 % interval.

    One user says nothing about others, so with one the interval is unbounded: -inf to inf, null in JSON.
    """

    mean: float
    low: float
    high: float
    n: int
    users: int

    def __format__(self, spec: str) -> str:
        """The ends, each in the form of `spec`; n/a where they are unbounded."""
        return "n/a" if math.isinf(self.low) else f"[{self.low:{spec}}, {self.high:{spec}}]"


def mean_interval(
    values: Sequence[float], user_ids: Sequence[str], *, resamples: int = 2000, seed: int = 0
) -> Interval:
    """The exact mean of the rows and its seeded bootstrap interval, clustered by user.

    Args:
        values: One number a row.
        user_ids: Whose row each is.
        resamples: How often as many users as there are get drawn, with replacement, each with all of its rows.
        seed: Of the draws; the same users and seed draw the same.

    Raises:
        DataError: If there are no rows.
    """
    import numpy as np

    column = np.array(values, dtype=np.float64)
    rows = np.column_stack([column, np.ones_like(column)])
    return statistic_interval(rows, user_ids, _ratio, resamples=resamples, seed=seed)


def paired_interval(
    a: Sequence[float], b: Sequence[float], user_ids: Sequence[str], *, resamples: int = 2000, seed: int = 0
) -> Interval:
    """The mean difference `a - b` of paired rows with its interval, as `mean_interval` of the differences.

    Raises:
        DataError: If there are no rows.
    """
    return mean_interval(differences(a, b), user_ids, resamples=resamples, seed=seed)


def statistic_interval(
    statistics: NDArray[Any], user_ids: Sequence[str], value: Value, *, resamples: int = 2000, seed: int = 0
) -> Interval:
    """What the summed statistics of all rows come to, with its seeded bootstrap interval, clustered by user.

    Args:
        statistics: (n, S), what each row adds to the sums.
        user_ids: Whose row each is.
        value: What sums come to, (..., S) -> (...), such as the root of a sum of squares over a count.
        resamples: How often as many users as there are get drawn, with replacement, each with all of its rows.
        seed: Of the draws; the same users and seed draw the same.

    Raises:
        DataError: If there are no rows.
    """
    clusters = sums_by_user(statistics, user_ids)
    found, users = float(value(clusters.total)), len(clusters.rows)
    if users == 1:
        return Interval(found, -math.inf, math.inf, len(statistics), 1)
    drawn = _bootstrap(clusters, value, resamples, seed)
    # As many left out above as below, so that negated values give the negated interval.
    tail = int(_tail(clusters) * resamples)
    return Interval(found, float(drawn[tail]), float(drawn[-1 - tail]), len(statistics), users)


def paired_statistic_interval(
    a: NDArray[Any], b: NDArray[Any], user_ids: Sequence[str], value: Value, *, resamples: int = 2000, seed: int = 0
) -> Interval:
    """What the statistics of `a` come to less what those of `b` do, with its interval; the rows are paired, (n, S).

    Raises:
        DataError: If there are no rows.
    """
    import numpy as np

    width = a.shape[1]

    def difference(sums: NDArray[Any], /) -> Any:
        return value(sums[..., :width]) - value(sums[..., width:])

    return statistic_interval(np.concatenate([a, b], axis=1), user_ids, difference, resamples=resamples, seed=seed)


def share_interval(hits: Sequence[float], user_ids: Sequence[str]) -> Interval:
    """The share of hits with its Wilson interval, each user counted as one observation.

    A bootstrap of few users that all agree would be certain of them; this is not. A user's rows may agree fully, so
    they count as one: the interval is rather too wide than too narrow. Source: Wilson (1927), 95 %, z = 1.96.

    Raises:
        DataError: If there are no rows.
    """
    import numpy as np

    users = len(sums_by_user(np.array(hits, dtype=np.float64)[:, None], user_ids).rows)
    share = sum(hits) / len(hits)
    spread = _Z**2 / users
    center = (share + spread / 2) / (1 + spread)
    half = _Z / (1 + spread) * math.sqrt(share * (1 - share) / users + spread / (4 * users))
    return Interval(share, max(0.0, center - half), min(1.0, center + half), len(hits), users)


def differences(a: Sequence[float], b: Sequence[float]) -> list[float]:
    """`a - b`, row by row."""
    return [x - y for x, y in zip(a, b, strict=True)]


def effective_users(rows: NDArray[Any]) -> float:
    """How many users of equally many rows would say as much as users of these many, (users,); at least 1."""
    return float(rows.sum() ** 2 / (rows**2).sum())


def _ratio(sums: NDArray[Any], /) -> Any:
    return sums[..., 0] / sums[..., 1]


def _tail(clusters: Clusters) -> float:
    """The share of the resampled values to leave out at each end."""
    from scipy.special import ndtr, stdtrit

    users = effective_users(clusters.rows)
    if users < 2:  # Student's t has no spread to speak of: nothing is left out
        return 0.0
    return float(ndtr(-stdtrit(users - 1, _UPPER) * math.sqrt(users / (users - 1))))


def _bootstrap(clusters: Clusters, value: Value, resamples: int, seed: int) -> NDArray[Any]:
    """The values of resampled users, ascending, (resamples,)."""
    import numpy as np

    rng = np.random.default_rng(seed)
    users, found = len(clusters.rows), []
    for size in batches(users, resamples):
        drawn = rng.integers(users, size=(size, users))
        # A plain sum, not a matrix product: that may add in another order with another number of threads.
        found.append(value(np.stack([column.take(drawn).sum(axis=1) for column in clusters.sums.T], axis=-1)))
    return np.sort(np.concatenate(found))
