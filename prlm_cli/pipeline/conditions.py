"""Conditions: the same policy and the same queries under changed prompts, each compared with a reference condition."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import msgspec

from prlm_cli.core.errors import DataError
from prlm_cli.core.records import Generation, Retrieved
from prlm_cli.core.reporting import Reporter
from prlm_cli.core.settings import Config
from prlm_cli.pipeline.compare import Comparison, compare_scores
from prlm_cli.pipeline.completion_cache import CompletionCache
from prlm_cli.pipeline.evaluate import Evaluation, evaluate
from prlm_cli.pipeline.generate import generate
from prlm_cli.pipeline.policies import Policy


@dataclass(frozen=True)
class Condition:
    """What the policy is shown in one condition: each query with the records of that condition.

    A query that the condition cannot be made for is missing from it.
    """

    name: str
    queries: Sequence[Retrieved]


@dataclass(frozen=True)
class ConditionResult:
    """What the answers of a condition scored.

    `difference` is the condition minus the reference, by metric, over the queries that both hold; the reference itself
    and a metric that applies to none of these have none.
    """

    name: str
    generations: Sequence[Generation]
    evaluation: Evaluation
    difference: dict[str, Comparison] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The figures, without the single answers."""
        differences = {metric: msgspec.to_builtins(found) for metric, found in self.difference.items()}
        return {"name": self.name, **self.evaluation.as_dict(), "difference": differences}


@dataclass(frozen=True)
class Conditions:
    """All conditions of a run, and which of them the others are compared with."""

    reference: str
    results: Sequence[ConditionResult]

    def __getitem__(self, name: str) -> ConditionResult:
        """The condition of that name."""
        return next(result for result in self.results if result.name == name)

    def as_dict(self) -> dict[str, Any]:
        """The figures of all conditions, as JSON takes them."""
        return {"reference": self.reference, "conditions": [result.as_dict() for result in self.results]}


def run_conditions(
    conditions: Sequence[Condition],
    reference: str,
    policy: Policy,
    config: Config,
    *,
    reporter: Reporter | None = None,
    cache: CompletionCache | None = None,
) -> Conditions:
    """Each condition's answers, their scores, and how they differ from those of the reference.

    Args:
        conditions: What to show the policy; a condition without queries is left out.
        reference: The name of the condition that the others are compared with.
        policy: Who writes.
        config: Decoding, metrics, resamples and the seed.
        reporter: Told about progress.
        cache: Of the policy's completions; with it a stopped run goes on where it was.

    Raises:
        DataError: If the reference has no queries.
        SettingsError: If a metric is unknown.
    """
    asked = [condition for condition in conditions if condition.queries]
    if reference not in {condition.name for condition in asked}:
        raise DataError(f"no queries for the condition '{reference}'", hint="name a split or a file that holds queries")
    shown = [query for condition in asked for query in condition.queries]
    written = generate(shown, policy, config, reporter=reporter, stage="conditions", cache=cache)
    found = [_scored(condition, written, config) for condition in asked]
    base = next(result for result in found if result.name == reference)
    for result in found:
        if result is not base:
            result.difference.update(_difference(result, base, config))
    return Conditions(reference, found)


def _scored(condition: Condition, written: Iterator[Generation], config: Config) -> ConditionResult:
    answers = list(islice(written, len(condition.queries)))
    return ConditionResult(condition.name, answers, evaluate(answers, config.eval, seed=config.seed))


def _difference(result: ConditionResult, base: ConditionResult, config: Config) -> dict[str, Comparison]:
    a, b = result.evaluation.scores, base.evaluation.scores
    found = {}
    for metric in _common_metrics(a.query_ids, result, base):
        [found[metric]] = compare_scores(a, b, [metric], config.eval.bootstrap, config.seed)
    return found


def _common_metrics(query_ids: Sequence[str], result: ConditionResult, base: ConditionResult) -> Iterator[str]:
    """The metrics that apply to at least one query in both."""
    rows = {query_id: row for row, query_id in enumerate(base.evaluation.scores.query_ids)}
    for metric in result.evaluation.metrics:
        a, b = result.evaluation.scores[metric], base.evaluation.scores[metric]
        if any(
            value is not None and query_id in rows and b[rows[query_id]] is not None
            for value, query_id in zip(a, query_ids, strict=True)
        ):
            yield metric
