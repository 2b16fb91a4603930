"""Two sets of scored generations, query by query and user by user: what `prlm compare` compares.

Where a side answered a query several times, with several seeds, its scores on that query are averaged.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from prlm_cli.core.errors import DataError
from prlm_cli.core.records import Generation
from prlm_cli.metrics import direction
from prlm_cli.pipeline.evaluate import Scores, read_generations

if TYPE_CHECKING:
    from numpy.typing import NDArray

TIE = 1e-9  # scores no further apart are as good as each other: an average of seeds may differ in its last digits


class QueryDifference(msgspec.Struct, frozen=True):
    """What A and B scored on one query; `difference` is A - B."""

    query_id: str
    user_id: str
    a: float
    b: float
    difference: float


class UserDifference(msgspec.Struct, frozen=True):
    """What A and B scored on the `queries` queries of one user, on average; `difference` is A - B."""

    user_id: str
    a: float
    b: float
    difference: float
    queries: int


class Aligned(NamedTuple):
    """The queries that both answered, as `align` finds them: the rows of A and of B that hold each."""

    a: Scores
    b: Scores
    rows: dict[str, tuple[list[int], list[int]]]
    only_a: int
    only_b: int

    def by_query(self, metric: str) -> list[QueryDifference]:
        """What the common queries scored, in the order of A, without those that the metric does not apply to.

        Raises:
            DataError: If the metric applies to none.
        """
        column_a, column_b = self.a[metric], self.b[metric]
        found = []
        for query_id, (rows_a, rows_b) in self.rows.items():
            a, b = _mean(column_a, rows_a), _mean(column_b, rows_b)
            if a is not None and b is not None:
                found.append(QueryDifference(query_id, self.a.user_ids[rows_a[0]], a, b, a - b))
        if not found:
            raise DataError(
                f"metric '{metric}' applies to none of the {len(self.rows)} common queries",
                hint="most metrics need a target, copy_rate a profile",
            )
        return found

    def statistics(self, metric: str) -> tuple[NDArray[Any], NDArray[Any]]:
        """What the queries of `by_query` add to the sums of A and of B, (n, S) each, in their order."""
        import numpy as np

        a, b = (_statistics(scores, metric) for scores in (self.a, self.b))
        pairs = [
            (np.mean(of_a, axis=0), np.mean(of_b, axis=0))
            for rows_a, rows_b in self.rows.values()
            if (of_a := [a[row] for row in rows_a if row in a]) and (of_b := [b[row] for row in rows_b if row in b])
        ]
        return np.array([row for row, _ in pairs]), np.array([row for _, row in pairs])

    def generations(self) -> tuple[int, int]:
        """How many generations of A and of B the common queries have: more than queries where seeds are pooled."""
        a, b = zip(*self.rows.values(), strict=True)
        return sum(map(len, a)), sum(map(len, b))


def align(a: Scores, b: Scores) -> Aligned:
    """Pairs the generations of the same query.

    Raises:
        DataError: If either is empty or holds a query twice with one seed, if they share no query, or if a query is not
            one user's throughout.
    """
    rows_a, rows_b = _rows("A", a), _rows("B", b)
    common = {query_id: (rows, rows_b[query_id]) for query_id, rows in rows_a.items() if query_id in rows_b}
    if not common:
        raise DataError(
            f"A and B share no query: A holds {len(rows_a)} ('{a.query_ids[0]}', ...),"
            f" B {len(rows_b)} ('{b.query_ids[0]}', ...)",
            hint="compare generations for the same queries",
        )
    for query_id, (of_a, of_b) in common.items():
        user_a, user_b = a.user_ids[of_a[0]], b.user_ids[of_b[0]]
        if user_a != user_b:
            raise DataError(
                f"query '{query_id}' is of user '{user_a}' in A, of '{user_b}' in B",
                hint="compare generations for the same queries",
            )
    return Aligned(a, b, common, len(rows_a) - len(common), len(rows_b) - len(common))


def by_user(differences: Iterable[QueryDifference]) -> list[UserDifference]:
    """What each user's queries scored on average, the largest difference first."""
    queries: dict[str, list[QueryDifference]] = {}
    for query in differences:
        queries.setdefault(query.user_id, []).append(query)
    users = [
        UserDifference(
            user_id,
            math.fsum(query.a for query in own) / len(own),
            math.fsum(query.b for query in own) / len(own),
            math.fsum(query.difference for query in own) / len(own),
            len(own),
        )
        for user_id, own in queries.items()
    ]
    return sorted(users, key=lambda user: (-user.difference, user.user_id))


def outcome(metric: str, difference: float) -> int:
    """1 where a difference A - B makes A the better one on the metric, -1 where B, 0 for a tie."""
    return direction(metric) * ((difference > TIE) - (difference < -TIE))


def read_joined(path: Path) -> Iterator[Generation]:
    """The generations of a file, or of several with commas between their names: one policy's, with several seeds.

    Raises:
        DataError: If a line is not a generation.
    """
    for part in parts_of(path):
        yield from read_generations(part)


def parts_of(path: Path) -> list[Path]:
    """The files that a name with commas stands for; a file of that very name is itself."""
    # Not path.exists(): that raises where many names together are too long for one.
    return [path] if os.path.exists(path) else [Path(part) for part in str(path).split(",") if part]  # noqa: PTH110


def _rows(name: str, scores: Scores) -> dict[str, list[int]]:
    """The rows of each query."""
    if not scores:
        raise DataError(f"{name} holds no generations", hint="give at least one record that `prlm generate` wrote")
    rows: dict[str, list[int]] = {}
    for row, query_id in enumerate(scores.query_ids):
        rows.setdefault(query_id, []).append(row)
    for query_id, own in rows.items():
        if len(own) > 1:
            _check_pooled(name, scores, query_id, own)
    if len(rows) < len(scores) and len(scores.retrievers) > 1:
        raise DataError(
            f"{name} pools generations of retrievers {', '.join(sorted(scores.retrievers))}",
            hint="what is pooled may differ by seed alone",
        )
    return rows


def _check_pooled(name: str, scores: Scores, query_id: str, rows: Sequence[int]) -> None:
    seeds = [scores.seeds[row] for row in rows]
    if len(set(seeds)) < len(seeds):
        raise DataError(
            f"{name} holds query '{query_id}' twice with seed {max(seeds, key=seeds.count)}",
            hint="give one generation a query and seed",
        )
    if len({scores.user_ids[row] for row in rows}) > 1:
        raise DataError(
            f"{name} holds query '{query_id}' of several users", hint="give each user's queries ids of their own"
        )


def _statistics(scores: Scores, metric: str) -> dict[int, NDArray[Any]]:
    """The statistics of each row that the metric applies to."""
    return dict(zip(*(part.tolist() if part.ndim == 1 else part for part in scores.statistics(metric)), strict=True))


def _mean(column: Sequence[float | None], rows: Sequence[int]) -> float | None:
    """The mean over the rows that the metric applies to; None where that is none."""
    values = [value for row in rows if (value := column[row]) is not None]
    return math.fsum(values) / len(values) if values else None
