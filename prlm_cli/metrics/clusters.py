"""Rows summed by user, and random draws in batches: what intervals and permutation tests share.

Users are taken in the order of their ids and their rows are summed exactly, so the order of the rows changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from prlm_cli.core.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CELLS_AT_ONCE = 2**22  # users times resamples in memory, 32 MB each array


class Value(Protocol):
    """What summed statistics come to, such as a sum over a count, for many sums at once."""

    def __call__(self, sums: NDArray[Any], /) -> NDArray[Any]:
        """One number for each of the sums: (..., S) -> (...). Defined wherever at least one row was summed."""
        ...


class Clusters(NamedTuple):
    """The rows of each user: the sum of their statistics, (users, S), how many they are, (users,), and all summed."""

    sums: NDArray[Any]
    rows: NDArray[Any]
    total: NDArray[Any]


def sums_by_user(statistics: NDArray[Any], user_ids: Sequence[str]) -> Clusters:
    """The statistics of the rows, (n, S), summed by user and over all.

    Raises:
        DataError: If there are no rows.
        ValueError: If there are not as many user ids as rows.
    """
    import numpy as np

    if not len(statistics):
        raise DataError("no scores to take a mean of", hint="give at least one record")
    if len(statistics) != len(user_ids):
        raise ValueError(f"{len(statistics)} rows, but {len(user_ids)} user ids")
    number = {user_id: n for n, user_id in enumerate(sorted(set(user_ids)))}
    owners = np.fromiter((number[user_id] for user_id in user_ids), dtype=np.intp, count=len(user_ids))
    rows = np.bincount(owners, minlength=len(number))
    ends = np.cumsum(rows).tolist()
    spans = list(zip([0, *ends], ends, strict=False))
    ordered = statistics.take(np.argsort(owners, kind="stable"), axis=0)
    columns = [column.tolist() for column in ordered.T]
    sums = np.array([[math.fsum(column[start:end]) for start, end in spans] for column in columns]).T
    return Clusters(sums, rows, np.array([math.fsum(column) for column in columns]))


def batches(users: int, resamples: int) -> Iterator[int]:
    """How many resamples to draw at a time, so that memory stays bounded."""
    size = max(1, _CELLS_AT_ONCE // users)
    for start in range(0, resamples, size):
        yield min(size, resamples - start)
