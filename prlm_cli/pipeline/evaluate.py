"""`prlm eval`: what generations score, with intervals over users."""

from __future__ import annotations

import math
import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from prlm_cli.core import jsonl
from prlm_cli.core.errors import DataError, SettingsError
from prlm_cli.core.records import Generation
from prlm_cli.core.settings import EvalSettings
from prlm_cli.metrics import METRICS
from prlm_cli.metrics.intervals import Interval, mean_interval


class MetricSummary(Interval, frozen=True):
    """What a metric came to. `mean` weighs every query alike, `user_mean` every user."""

    user_mean: float


class Scores:
    """The score of each generation on each metric.

    A column a metric, as a million generations are scored in a stream: their texts are gone, and a score takes 8 bytes.

    Args:
        metrics: Names in `METRICS`.
    """

    def __init__(self, metrics: Sequence[str]) -> None:
        self.query_ids: list[str] = []
        self.user_ids: list[str] = []
        self.seeds: list[int] = []
        self.policies: set[str] = set()
        self.retrievers: set[str] = set()
        self._columns = {metric: array("d") for metric in metrics}

    def __len__(self) -> int:
        return len(self.query_ids)

    def add(self, generation: Generation, values: Iterable[float | None]) -> None:
        """Adds one generation and its scores, in the order of the metrics."""
        self.query_ids.append(generation.query_id)
        self.user_ids.append(sys.intern(generation.user_id))
        self.seeds.append(generation.seed)
        self.policies.add(generation.policy)
        self.retrievers.add(generation.retriever)
        for column, value in zip(self._columns.values(), values, strict=True):
            column.append(math.nan if value is None else value)

    def __getitem__(self, metric: str) -> list[float | None]:
        """The scores on one metric, in the order of the generations; None where it does not apply."""
        return [None if math.isnan(value) else value for value in self._columns[metric]]

    def records(self) -> Iterator[msgspec.Struct]:
        """One record a generation: `query_id`, `user_id` and one key a metric."""
        fields = [(name, str) for name in ("query_id", "user_id")] + [(m, float | None) for m in self._columns]
        record = msgspec.defstruct("Score", fields, frozen=True)
        for query_id, user_id, *values in zip(self.query_ids, self.user_ids, *self._columns.values(), strict=True):
            yield record(query_id, user_id, *(None if math.isnan(value) else value for value in values))


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
    """The metrics of `settings` over the generations, each an exact mean with a 95 % interval clustered by user.

    Raises:
        DataError: If there are no generations.
        SettingsError: If a metric is unknown, or none is named.
    """
    scores = score_generations(generations, settings.metrics)
    if not scores:
        raise DataError("no generations to evaluate", hint="give at least one record that `prlm generate` wrote")
    return Evaluation(
        n=len(scores),
        users=len(set(scores.user_ids)),
        policies=sorted(scores.policies),
        retrievers=sorted(scores.retrievers),
        metrics={m: _summary(scores[m], scores.user_ids, settings.bootstrap, seed) for m in settings.metrics},
        scores=scores,
    )


def score_generations(generations: Iterable[Generation], metrics: Sequence[str]) -> Scores:
    """Each generation's score on each metric; a metric that is named twice counts once.

    Raises:
        SettingsError: If a metric is unknown, or none is named.
    """
    if not metrics:
        raise SettingsError("no metric is named", hint=f"known: {', '.join(METRICS)}")
    functions = {metric: METRICS[metric] for metric in metrics}
    scores = Scores(list(functions))
    for generation in generations:
        scores.add(generation, (function(generation) for function in functions.values()))
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


def _summary(values: list[float | None], user_ids: list[str], resamples: int, seed: int) -> MetricSummary | None:
    rows = [(value, user_id) for value, user_id in zip(values, user_ids, strict=True) if value is not None]
    if not rows:
        return None
    found, owners = [value for value, _ in rows], [user_id for _, user_id in rows]
    interval = mean_interval(found, owners, resamples=resamples, seed=seed)
    by_user: dict[str, list[float]] = {}
    for value, user_id in rows:
        by_user.setdefault(user_id, []).append(value)
    user_mean = math.fsum(math.fsum(own) / len(own) for own in by_user.values()) / len(by_user)
    return MetricSummary(**msgspec.structs.asdict(interval), user_mean=user_mean)
