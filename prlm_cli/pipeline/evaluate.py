"""`prlm eval`: what generations score, with intervals over users."""

from __future__ import annotations

import math
import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from prlm_cli.core import jsonl
from prlm_cli.core.errors import DataError, SettingsError
from prlm_cli.core.records import Generation
from prlm_cli.core.settings import EvalSettings
from prlm_cli.metrics import METRICS
from prlm_cli.metrics.clusters import Value, sums_by_user
from prlm_cli.metrics.intervals import Interval, statistic_interval
from prlm_cli.metrics.summed import SummedMetric, value_of
from prlm_cli.pipeline.leaderboard import leaderboard_metrics
from prlm_cli.pipeline.processes import chunks, in_order

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHUNK = 1000
"""Generations that are scored at once; fewer are scored in this process."""


class MetricSummary(Interval, frozen=True):
    """What a metric came to. `mean` is its value over all queries, `user_mean` the mean of its value for each user."""

    user_mean: float


class Scores:
    """What each generation adds to the sums of each metric; see `metrics.summed`.

    Columns of numbers, as a million generations are scored in a stream: their texts are gone, and a number takes 8
    bytes; a plain metric is one, its score.

    Args:
        metrics: Names in `METRICS`.
    """

    def __init__(self, metrics: Sequence[str]) -> None:
        self.query_ids: list[str] = []
        self.user_ids: list[str] = []
        self.seeds: list[int] = []
        self.policies: set[str] = set()
        self.retrievers: set[str] = set()
        self._metrics = {name: METRICS[name] for name in metrics}
        self._columns = {
            name: [array("d") for _ in range(metric.size if isinstance(metric, SummedMetric) else 1)]
            for name, metric in self._metrics.items()
        }

    def __len__(self) -> int:
        return len(self.query_ids)

    def add(self, generation: Generation) -> None:
        """Scores one more generation."""
        self.query_ids.append(generation.query_id)
        self.user_ids.append(sys.intern(generation.user_id))
        self.seeds.append(generation.seed)
        self.policies.add(generation.policy)
        self.retrievers.add(generation.retriever)
        for metric, columns in zip(self._metrics.values(), self._columns.values(), strict=True):
            if not isinstance(metric, SummedMetric):
                score = metric(generation)
                columns[0].append(math.nan if score is None else score)
                continue
            found = metric.statistics(generation) or [math.nan] * metric.size
            for column, value in zip(columns, found, strict=True):
                column.append(value)

    def extend(self, other: Scores) -> None:
        """Adds the generations of other scores on the same metrics."""
        self.query_ids += other.query_ids
        self.user_ids += map(sys.intern, other.user_ids)
        self.seeds += other.seeds
        self.policies |= other.policies
        self.retrievers |= other.retrievers
        for name, columns in self._columns.items():
            for column, more in zip(columns, other._columns[name], strict=True):
                column.extend(more)

    def __getitem__(self, metric: str) -> list[float | None]:
        """What each generation comes to alone, in their order; None where the metric does not apply."""
        import numpy as np

        applies, rows = self.statistics(metric)
        values = np.full(len(self), np.nan)
        if len(rows):
            values[applies] = self.value_of(metric)(rows)
        return [None if math.isnan(value) else value for value in values.tolist()]

    def statistics(self, metric: str) -> tuple[NDArray[Any], NDArray[Any]]:
        """The statistics of the generations that a metric applies to, (n, S), after the numbers of these, (n,)."""
        import numpy as np

        columns = [np.array(column) for column in self._columns[metric]]
        applies = np.flatnonzero(~np.isnan(columns[0]))
        if not isinstance(self._metrics[metric], SummedMetric):
            columns.append(np.ones(len(self)))
        return applies, np.column_stack(columns)[applies]

    def value_of(self, metric: str) -> Value:
        """What sums of a metric's statistics come to, (..., S) -> (...)."""
        return value_of(self._metrics[metric])

    def records(self) -> Iterator[msgspec.Struct]:
        """One record a generation: `query_id`, `user_id` and one key a metric."""
        fields = [(name, str) for name in ("query_id", "user_id")] + [(m, float | None) for m in self._columns]
        record = msgspec.defstruct("Score", fields, frozen=True)
        columns = [self[metric] for metric in self._columns]
        for row in zip(self.query_ids, self.user_ids, *columns, strict=True):
            yield record(*row)


@dataclass(frozen=True)
class Evaluation:
    """What the generations scored. `metrics` holds None for a metric that applied to none of them."""

    n: int
    users: int
    policies: list[str]
    retrievers: list[str]
    metrics: dict[str, MetricSummary | None]
    scores: Scores

    def as_dict(self) -> dict[str, Any]:
        """The evaluation without the scores of the single queries, as JSON takes it."""
        facts = {name: getattr(self, name) for name in ("n", "users", "policies", "retrievers")}
        return facts | {"metrics": {m: s and msgspec.structs.asdict(s) for m, s in self.metrics.items()}}


def evaluate(generations: Iterable[Generation], settings: EvalSettings, *, seed: int = 0) -> Evaluation:
    """The metrics of `settings` over the generations, each its exact value with a 95 % interval clustered by user.

    With `settings.leaderboard`, the metrics are those that LaMP's leaderboard has for the task of the generations.

    Raises:
        DataError: If there are no generations, or for the leaderboard, if they are not of one task of LaMP.
        MissingError: If a metric needs what is not installed.
        SettingsError: If a metric is unknown, or none is named.
    """
    metrics = settings.metrics
    if settings.leaderboard:
        metrics, generations = leaderboard_metrics(generations)
    scores = score_generations(generations, metrics, processes=settings.processes)
    if not scores:
        raise DataError("no generations to evaluate", hint="give at least one record that `prlm generate` wrote")
    return Evaluation(
        n=len(scores),
        users=len(set(scores.user_ids)),
        policies=sorted(scores.policies),
        retrievers=sorted(scores.retrievers),
        metrics={m: _summary(scores, m, settings.bootstrap, seed) for m in metrics},
        scores=scores,
    )


def score_generations(generations: Iterable[Generation], metrics: Sequence[str], *, processes: int = 1) -> Scores:
    """Each generation's score on each metric; a metric that is named twice counts once.

    Args:
        generations: Read as they are scored, a few thousand ahead.
        metrics: Names in `METRICS`.
        processes: How many processes score, 0 for one a core. Whatever they are, the scores are the same.

    Raises:
        MissingError: If a metric needs what is not installed.
        SettingsError: If a metric is unknown, or none is named.
    """
    if not metrics:
        raise SettingsError("no metric is named", hint=f"known: {', '.join(METRICS)}")
    names = list(dict.fromkeys(metrics))
    scores = Scores(names)
    for part in in_order(partial(_score, names), chunks(generations, CHUNK), processes):
        scores.extend(part)
    return scores


def _score(metrics: Sequence[str], generations: Sequence[Generation]) -> Scores:
    scores = Scores(metrics)
    for generation in generations:
        scores.add(generation)
    return scores


def read_generations(path: Path) -> Iterator[Generation]:
    """The generations of a file, or of standard input for `-`.

    Raises:
        DataError: If a line is not a generation.
    """
    for where, fields in jsonl.read_lines(path):
        if "query_id" in fields and "answer" not in fields:
            raise DataError(f"{where}: no field 'answer'", hint="pipe it through `prlm generate -`")
        yield jsonl.validate(where, fields, Generation)


def _summary(scores: Scores, metric: str, resamples: int, seed: int) -> MetricSummary | None:
    applies, rows = scores.statistics(metric)
    if not len(rows):
        return None
    owners, value = [scores.user_ids[row] for row in applies.tolist()], scores.value_of(metric)
    interval = statistic_interval(rows, owners, value, resamples=resamples, seed=seed)
    of_users = value(sums_by_user(rows, owners).sums).tolist()
    return MetricSummary(**msgspec.structs.asdict(interval), user_mean=math.fsum(of_users) / len(of_users))
