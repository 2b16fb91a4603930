"""`prlm compare`: whether A's generations are better than B's, paired by query and clustered by user."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from prlm_cli.core import jsonl
from prlm_cli.core.errors import DataError
from prlm_cli.core.records import Generation
from prlm_cli.metrics import direction
from prlm_cli.metrics.clusters import sums_by_user
from prlm_cli.metrics.effects import effect_size, holm, least_gain
from prlm_cli.metrics.intervals import Interval, paired_statistic_interval, share_interval
from prlm_cli.metrics.permutation import paired_statistic_p
from prlm_cli.pipeline.aligned import Aligned, UserDifference, align, by_user, outcome, parts_of, read_joined
from prlm_cli.pipeline.evaluate import Scores, score_generations

Name = TypeVar("Name")


class Counts(msgspec.Struct, frozen=True):
    """How often A was better than B, as good, and worse."""

    win: int
    tie: int
    loss: int


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """A against B on one metric, over the queries that both answered and the metric applies to.

    `difference` is A - B: above 0, A scores higher. The interval is over users: it says nothing of seeds that nobody
    ran. `only_a` and `only_b` count the queries that the other lacks, `not_applicable` the common ones that the metric
    does not apply to, `generations_a` and `generations_b` the generations of the common queries: more than there are
    queries where several seeds of a query are averaged.

    Attributes:
        p: Two-sided, of the permutation test.
        p_holm: `p`, raised for all comparisons that were made together.
        effect_size: Cohen's d of the users' mean differences; see `metrics.effects`.
        least_gain: The smallest true difference that such a test set shows with 80 % power; see `metrics.effects`.
        by_query: How often A was better; None, as `by_user` and `harm`, for a metric of which neither end is better.
        by_user: The same, by the mean of a user's queries.
        harm: The share of users whom A serves worse than B; where B does without the profile, the harm of
            personalization.
    """

    metric: str
    mean_a: float
    mean_b: float
    difference: Interval
    p: float
    p_holm: float
    effect_size: float | None
    least_gain: float | None
    by_query: Counts | None
    by_user: Counts | None
    harm: Interval | None
    only_a: int
    only_b: int
    not_applicable: int
    generations_a: int
    generations_b: int


class Compared(NamedTuple):
    """The comparisons of two files, and the queries that they rest on."""

    aligned: Aligned
    comparisons: list[Comparison]

    def users(self, metric: str) -> list[UserDifference]:
        """What each user's queries scored on average, the largest difference first."""
        return by_user(self.aligned.by_query(metric))


def compare(
    a: Iterable[Generation], b: Iterable[Generation], *, metric: str = "rougeL", resamples: int = 2000, seed: int = 0
) -> Comparison:
    """A against B on one metric; see `compare_all`."""
    return compare_all(a, b, metrics=[metric], resamples=resamples, seed=seed)[0]


def compare_all(
    a: Iterable[Generation], b: Iterable[Generation], *, metrics: Sequence[str], resamples: int = 2000, seed: int = 0
) -> list[Comparison]:
    """A against B on each metric; the generations are read once.

    Queries that only one of them answered are left out, and counted. Several generations of a query, each with a seed
    of its own, are averaged.

    Raises:
        DataError: If either is empty or holds a query twice with one seed, if they share no query, if a query is one
            user's in A and another's in B, or if a metric applies to no common query.
        SettingsError: If a metric is unknown.
    """
    return compare_scores(score_generations(a, metrics), score_generations(b, metrics), metrics, resamples, seed)


def compare_scores(a: Scores, b: Scores, metrics: Sequence[str], resamples: int, seed: int) -> list[Comparison]:
    """As `compare_all`, of generations that are scored already."""
    return compare_many(a, {"B": b}, metrics, resamples, seed)["B"].comparisons


def compare_many(
    a: Scores, others: Mapping[Name, Scores], metrics: Sequence[str], resamples: int, seed: int
) -> dict[Name, Compared]:
    """As `compare_scores`, against several others; the p of each comparison is adjusted for all of them."""
    names = list(dict.fromkeys(metrics))
    aligned = {name: align(a, scores) for name, scores in others.items()}
    found = {name: [_comparison(of, metric, resamples, seed) for metric in names] for name, of in aligned.items()}
    return {name: Compared(aligned[name], comparisons) for name, comparisons in adjusted(found).items()}


def compare_files(
    a: Path,
    others: Iterable[Path],
    *,
    metrics: Sequence[str],
    resamples: int = 2000,
    seed: int = 0,
    read: Callable[[Path], Iterable[Generation]] = read_joined,
) -> dict[Path, Compared]:
    """The generations of file `a` against those of each of the others; see `read_joined` for several seeds.

    Args:
        a: A file.
        others: What it is held against.
        metrics: Names in `METRICS`.
        resamples: Behind each interval and p.
        seed: Of these.
        read: Gives the generations of a file, for a caller who looks at them too.

    Raises:
        DataError: As `compare_all`, or if a line is not a generation, or standard input is named twice.
        SettingsError: If a metric is unknown.
    """
    paths = list(dict.fromkeys(others))
    if [part for path in (a, *paths) for part in parts_of(path)].count(jsonl.STDIN) > 1:
        raise DataError("standard input is named twice", hint="write one of the two to a file")
    scores = score_generations(read(a), metrics)
    return compare_many(scores, {p: score_generations(read(p), metrics) for p in paths}, metrics, resamples, seed)


def adjusted(found: Mapping[Name, Sequence[Comparison]]) -> dict[Name, list[Comparison]]:
    """Comparisons that were made together, in groups, with the p of each raised for all of them (Holm)."""
    raised = iter(holm([comparison.p for comparisons in found.values() for comparison in comparisons]))
    return {
        name: [msgspec.structs.replace(comparison, p_holm=next(raised)) for comparison in comparisons]
        for name, comparisons in found.items()
    }


def _comparison(aligned: Aligned, metric: str, resamples: int, seed: int) -> Comparison:
    queries = aligned.by_query(metric)
    n, value = len(queries), aligned.a.value_of(metric)
    a, b = aligned.statistics(metric)
    differences, user_ids = [query.difference for query in queries], [query.user_id for query in queries]
    users = [outcome(metric, user.difference) for user in by_user(queries)]
    mean_a, mean_b = (float(value(sums_by_user(side, user_ids).total)) for side in (a, b))
    p = paired_statistic_p(a, b, user_ids, value, resamples=resamples, seed=seed)
    generations_a, generations_b = aligned.generations()
    has_better = direction(metric) != 0
    return Comparison(
        metric=metric,
        mean_a=mean_a,
        mean_b=mean_b,
        difference=paired_statistic_interval(a, b, user_ids, value, resamples=resamples, seed=seed),
        p=p,
        p_holm=p,
        effect_size=effect_size(differences, user_ids),
        least_gain=least_gain(differences, user_ids),
        by_query=_counts([outcome(metric, difference) for difference in differences]) if has_better else None,
        by_user=_counts(users) if has_better else None,
        harm=_harm(users) if has_better else None,
        only_a=aligned.only_a,
        only_b=aligned.only_b,
        not_applicable=len(aligned.rows) - n,
        generations_a=generations_a,
        generations_b=generations_b,
    )


def _counts(outcomes: Sequence[int]) -> Counts:
    return Counts(win=outcomes.count(1), tie=outcomes.count(0), loss=outcomes.count(-1))


def _harm(users: Sequence[int]) -> Interval:
    return share_interval([user == -1 for user in users], [str(number) for number in range(len(users))])
