"""Means with intervals, and a test of a difference; both take users, not rows, as the sample.

One user's rows resemble each other, so an interval from resampled rows would be too narrow. Users are taken in the
order of their ids and their rows are summed exactly, so the order of the rows changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from prlm_cli.core.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TAIL = 0.025  # each side of a 95 % interval
_Z = 1.959964
_CELLS_AT_ONCE = 2**22  # users times resamples in memory, 32 MB each array


class Interval(msgspec.Struct, frozen=True):
    """A mean over `n` rows of `users` users, with its 95 % interval.

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
    """The exact mean of the rows and its seeded percentile bootstrap, clustered by user.

    Args:
        values: One number a row.
        user_ids: Whose row each is.
        resamples: How often as many users as there are get drawn, with replacement, each with all of its rows.
        seed: Of the draws; the same users and seed draw the same.

    Raises:
        DataError: If there are no rows.
    """
    sums, counts = _by_user(values, user_ids)
    mean = math.fsum(values) / len(values)
    if len(sums) == 1:
        return Interval(mean, -math.inf, math.inf, len(values), 1)
    means = sorted(_bootstrap_means(sums, counts, resamples, seed))
    tail = int(_TAIL * resamples)  # as many left out above as below, so that negated values give the negated interval
    return Interval(mean, means[tail], means[-1 - tail], len(values), len(sums))


def share_interval(hits: Sequence[float], user_ids: Sequence[str]) -> Interval:
    """The share of hits with its Wilson interval, each user counted as one observation.

    A bootstrap of few users that all agree would be certain of them; this is not. A user's rows may agree fully, so
    they count as one: the interval is rather too wide than too narrow. Source: Wilson (1927), 95 %, z = 1.96.

    Raises:
        DataError: If there are no rows.
    """
    sums, _ = _by_user([float(hit) for hit in hits], user_ids)
    users, share = len(sums), sum(hits) / len(hits)
    spread = _Z**2 / users
    center = (share + spread / 2) / (1 + spread)
    half = _Z / (1 + spread) * math.sqrt(share * (1 - share) / users + spread / (4 * users))
    return Interval(share, max(0.0, center - half), min(1.0, center + half), len(hits), users)


def paired_interval(
    a: Sequence[float], b: Sequence[float], user_ids: Sequence[str], *, resamples: int = 2000, seed: int = 0
) -> Interval:
    """The mean difference `a - b` of paired rows with its interval, as `mean_interval` of the differences.

    Raises:
        DataError: If there are no rows.
    """
    return mean_interval(_differences(a, b), user_ids, resamples=resamples, seed=seed)


def paired_permutation_p(
    a: Sequence[float], b: Sequence[float], user_ids: Sequence[str], *, resamples: int = 2000, seed: int = 0
) -> float:
    """The two-sided p of "a and b do not differ", by swapping a and b for whole users.

    All ways to swap are counted where there are no more than `resamples`; else as many random ones, and the observed
    one, so that p is at least 1 / (resamples + 1).

    Raises:
        DataError: If there are no rows.
    """
    sums, _ = _by_user(_differences(a, b), user_ids)
    # Sums of the same numbers in another order differ in the last digits; those are ties.
    observed = abs(math.fsum(sums)) * (1 - 1e-12)
    if len(sums) < resamples.bit_length():  # 2 ** users <= resamples
        flipped = list(_all_flips(sums))
        return sum(abs(total) >= observed for total in flipped) / len(flipped)
    extreme = sum(abs(total) >= observed for total in _random_flips(sums, resamples, seed))
    return (1 + extreme) / (1 + resamples)


def _differences(a: Sequence[float], b: Sequence[float]) -> list[float]:
    return [x - y for x, y in zip(a, b, strict=True)]


def _by_user(values: Sequence[float], user_ids: Sequence[str]) -> tuple[list[float], list[int]]:
    """Each user's sum and count, in the order of the users' ids."""
    if not values:
        raise DataError("no scores to take a mean of", hint="give at least one record")
    rows: dict[str, list[float]] = {}
    for value, user_id in zip(values, user_ids, strict=True):
        rows.setdefault(user_id, []).append(value)
    ordered = [rows[user_id] for user_id in sorted(rows)]
    return [math.fsum(row) for row in ordered], [len(row) for row in ordered]


def _bootstrap_means(sums: list[float], counts: list[int], resamples: int, seed: int) -> Iterator[float]:
    import numpy as np

    rng = np.random.default_rng(seed)
    totals, sizes = np.array(sums), np.array(counts, dtype=np.float64)  # (users,)
    for rows in _batches(len(sums), resamples):
        drawn = rng.integers(len(sums), size=(rows, len(sums)))
        yield from (totals[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)).tolist()


def _random_flips(sums: list[float], resamples: int, seed: int) -> Iterator[float]:
    import numpy as np

    rng = np.random.default_rng(seed)
    for rows in _batches(len(sums), resamples):
        yield from _flip(sums, rng.integers(2, size=(rows, len(sums)), dtype=np.int8))


def _all_flips(sums: list[float]) -> Iterator[float]:
    import numpy as np

    numbers = np.arange(2 ** len(sums))[:, None]
    yield from _flip(sums, numbers >> np.arange(len(sums)) & 1)


def _flip(sums: list[float], bits: NDArray[Any]) -> list[float]:
    import numpy as np

    # A plain sum, not a matrix product: that may add in another order with another number of threads.
    flipped: list[float] = (np.array(sums) * (1 - 2 * bits)).sum(axis=1).tolist()
    return flipped


def _batches(users: int, resamples: int) -> Iterator[int]:
    size = max(1, _CELLS_AT_ONCE // users)
    for start in range(0, resamples, size):
        yield min(size, resamples - start)
