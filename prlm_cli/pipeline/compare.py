"""`prlm compare`: whether A's generations are better than B's, paired by query and clustered by user."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from prlm_cli.core.errors import DataError, RefusedError, SettingsError
from prlm_cli.core.records import Generation
from prlm_cli.metrics import METRICS, direction
from prlm_cli.metrics.intervals import Interval, paired_interval, paired_permutation_p
from prlm_cli.pipeline.evaluate import Scores, score_generations

_REQUIREMENT = re.compile(r"\s*(\w+)\s*(>=|<=)\s*([+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)\s*", re.ASCII)


class Counts(msgspec.Struct, frozen=True):
    """How often A was better than B, as good, and worse."""

    win: int
    tie: int
    loss: int


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """A against B on one metric, over the queries that both answered and the metric applies to.

    `difference` is A - B: above 0, A scores higher. `p` is two-sided. `by_query` and `by_user` (by the user's mean)
    count how often A was better, and are None for a metric of which neither end is better. `only_a` and `only_b` count
    the queries that the other lacks, `not_applicable` the common ones that the metric does not apply to.
    """

    metric: str
    mean_a: float
    mean_b: float
    difference: Interval
    p: float
    by_query: Counts | None
    by_user: Counts | None
    only_a: int
    only_b: int
    not_applicable: int


class Requirement(NamedTuple):
    """A bound that the whole interval of a difference must keep to."""

    metric: str
    sign: str
    bound: float


class _Pairs(NamedTuple):
    a: list[float]
    b: list[float]
    user_ids: list[str]


def compare(
    a: Iterable[Generation], b: Iterable[Generation], *, metric: str = "rougeL", resamples: int = 2000, seed: int = 0
) -> Comparison:
    """A against B on one metric; see `compare_all`."""
    return compare_all(a, b, metrics=[metric], resamples=resamples, seed=seed)[0]


def compare_all(
    a: Iterable[Generation], b: Iterable[Generation], *, metrics: Sequence[str], resamples: int = 2000, seed: int = 0
) -> list[Comparison]:
    """A against B on each metric; the generations are read once.

    Queries that only one of them answered are left out, and counted.

    Raises:
        DataError: If either is empty or holds a query twice, if they share no query, if a query is one user's in A and
            another's in B, or if a metric applies to no common query.
        SettingsError: If a metric is unknown.
    """
    return compare_scores(score_generations(a, metrics), score_generations(b, metrics), metrics, resamples, seed)


def compare_scores(a: Scores, b: Scores, metrics: Sequence[str], resamples: int, seed: int) -> list[Comparison]:
    """As `compare_all`, of generations that are scored already."""
    rows_a, rows_b = _rows("A", a), _rows("B", b)
    common = [(row, rows_b[query_id]) for query_id, row in rows_a.items() if query_id in rows_b]
    if not common:
        raise DataError(
            f"A and B share no query: A holds {len(a)} ('{a.query_ids[0]}', ...), B {len(b)} ('{b.query_ids[0]}', ...)",
            hint="compare generations for the same queries",
        )
    _check_users(a, b, common)
    found = []
    for metric in dict.fromkeys(metrics):
        pairs = _pairs(a, b, metric, common)
        found.append(
            Comparison(
                metric=metric,
                mean_a=math.fsum(pairs.a) / len(pairs.a),
                mean_b=math.fsum(pairs.b) / len(pairs.b),
                difference=paired_interval(*pairs, resamples=resamples, seed=seed),
                p=paired_permutation_p(*pairs, resamples=resamples, seed=seed),
                by_query=_counts(metric, _by_query(pairs)),
                by_user=_counts(metric, _by_user(pairs)),
                only_a=len(a) - len(common),
                only_b=len(b) - len(common),
                not_applicable=len(common) - len(pairs.a),
            )
        )
    return found


def parse_requirement(text: str) -> Requirement:
    """A requirement such as "rougeL>=+0.01": the 95 % interval of A - B must lie at or above the number (`<=`: below).

    Raises:
        SettingsError: If the text is not one, or its metric is unknown.
    """
    match = _REQUIREMENT.fullmatch(text)
    if not match:
        raise SettingsError(f"requirement '{text}': not METRIC>=NUMBER", hint='for example "rougeL>=+0.01"')
    metric, sign, number = match.groups()
    METRICS[metric]  # an unknown one is refused here, before anything is read
    return Requirement(metric, sign, float(number))


def meets(requirement: str, comparison: Comparison) -> bool:
    """Whether the comparison meets the requirement; see `parse_requirement`.

    Raises:
        SettingsError: If the requirement cannot be read, or is about another metric.
    """
    metric, sign, bound = parse_requirement(requirement)
    if metric != comparison.metric:
        raise SettingsError(f"requirement '{requirement}' is not about {comparison.metric}", hint="compare that metric")
    return comparison.difference.low >= bound if sign == ">=" else comparison.difference.high <= bound


def check(requirements: Iterable[str], comparisons: Sequence[Comparison]) -> None:
    """Does nothing if every comparison meets the requirements on its metric.

    Raises:
        RefusedError: If one does not.
        SettingsError: If a requirement cannot be read.
    """
    for requirement in requirements:
        metric, sign, _ = parse_requirement(requirement)
        for comparison in comparisons:
            if comparison.metric == metric and not meets(requirement, comparison):
                raise RefusedError(
                    f"{requirement} is not met: A - B is {comparison.difference.mean:+.4f},"
                    f" its 95 % interval {comparison.difference:+.4f}",
                    hint=f"the {'lower' if sign == '>=' else 'upper'} end of the interval has to reach the number",
                )


def _rows(name: str, scores: Scores) -> dict[str, int]:
    """The row of each query."""
    if not scores:
        raise DataError(f"{name} holds no generations", hint="give at least one record that `prlm generate` wrote")
    rows: dict[str, int] = {}
    for row, query_id in enumerate(scores.query_ids):
        if rows.setdefault(query_id, row) != row:
            raise DataError(f"{name} holds query '{query_id}' twice", hint="give one generation a query")
    return rows


def _check_users(a: Scores, b: Scores, common: Sequence[tuple[int, int]]) -> None:
    for row_a, row_b in common:
        if a.user_ids[row_a] != b.user_ids[row_b]:
            raise DataError(
                f"query '{a.query_ids[row_a]}' is of user '{a.user_ids[row_a]}' in A, of '{b.user_ids[row_b]}' in B",
                hint="compare generations for the same queries",
            )


def _pairs(a: Scores, b: Scores, metric: str, common: Sequence[tuple[int, int]]) -> _Pairs:
    pairs = _Pairs([], [], [])
    column_a, column_b = a[metric], b[metric]
    for row_a, row_b in common:
        value_a, value_b = column_a[row_a], column_b[row_b]
        if value_a is not None and value_b is not None:
            pairs.a.append(value_a)
            pairs.b.append(value_b)
            pairs.user_ids.append(a.user_ids[row_a])
    if not pairs.a:
        raise DataError(
            f"metric '{metric}' applies to none of the {len(common)} common queries",
            hint="most metrics need a target, copy_rate a profile",
        )
    return pairs


def _by_query(pairs: _Pairs) -> Iterator[float]:
    return (a - b for a, b in zip(pairs.a, pairs.b, strict=True))


def _by_user(pairs: _Pairs) -> Iterator[float]:
    """Each user's sum of differences, which has the sign of the mean."""
    rows: dict[str, list[float]] = {}
    for user_id, difference in zip(pairs.user_ids, _by_query(pairs), strict=True):
        rows.setdefault(user_id, []).append(difference)
    return (math.fsum(differences) for differences in rows.values())


def _counts(metric: str, differences: Iterable[float]) -> Counts | None:
    better = direction(metric)
    if better == 0:
        return None
    signs = [(difference > 0) - (difference < 0) for difference in differences]
    return Counts(win=signs.count(better), tie=signs.count(0), loss=signs.count(-better))
