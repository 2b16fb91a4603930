"""Conditions: the same queries asked under changed prompts, each compared with a reference condition."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from prlm_cli.core.errors import DataError
from prlm_cli.core.records import Generation, Retrieved, widen
from prlm_cli.core.reporting import Reporter
from prlm_cli.core.settings import Config, PromptSettings
from prlm_cli.metrics.intervals import Interval
from prlm_cli.pipeline.compare import Comparison, adjusted, compare_scores
from prlm_cli.pipeline.completion_cache import CompletionCache
from prlm_cli.pipeline.evaluate import Evaluation, evaluate
from prlm_cli.pipeline.generate import generate
from prlm_cli.pipeline.policies import Policy


@dataclass(frozen=True)
class Condition:
    """What a policy is shown in one condition; a query that the condition cannot be made for is missing from it.

    Attributes:
        name: What people call it.
        queries: Each with the records of the condition.
        facts: The settings that make it, such as {"k": 4}.
        prompt: The form of its prompts, where that is not the policy's own.
        thoughts: Query id -> the reasoning that is given instead of the policy's own.
    """

    name: str
    queries: Sequence[Retrieved]
    facts: Mapping[str, Any] = field(default_factory=dict)
    prompt: PromptSettings | None = None
    thoughts: Mapping[str, str] | None = None


@dataclass(frozen=True)
class ConditionResult:
    """What the answers of a condition scored.

    `difference` is the condition minus the reference, by metric, over the queries that both hold; the reference itself
    and a metric that applies to none of these have none.
    """

    name: str
    facts: Mapping[str, Any]
    generations: Sequence[Generation]
    evaluation: Evaluation
    difference: Mapping[str, Comparison] = field(default_factory=dict)

    def gain_of_reference(self, metric: str) -> Interval | None:
        """The reference minus the condition; None where they are not compared."""
        if metric not in self.difference:
            return None
        found = self.difference[metric].difference
        return Interval(-found.mean, -found.high, -found.low, found.n, found.users)

    def as_dict(self) -> dict[str, Any]:
        """The figures, without the single answers."""
        differences = {metric: msgspec.to_builtins(found) for metric, found in self.difference.items()}
        facts = {"name": self.name, "facts": dict(self.facts)}
        return {**facts, **self.evaluation.as_dict(), "difference": differences}


@dataclass(frozen=True)
class Conditions:
    """All conditions of a run, and which of them the others are compared with."""

    reference: str
    results: Sequence[ConditionResult]

    def __getitem__(self, name: str) -> ConditionResult:
        """The condition of that name."""
        return next(result for result in self.results if result.name == name)

    def __contains__(self, name: str) -> bool:
        """Whether there is a condition of that name."""
        return any(result.name == name for result in self.results)

    def as_dict(self) -> dict[str, Any]:
        """The figures of all conditions, as JSON takes them."""
        return {"reference": self.reference, "conditions": [result.as_dict() for result in self.results]}

    def records(self) -> Iterator[msgspec.Struct]:
        """One record a generation: `condition`, and the scores of the query."""
        for result in self.results:
            fields: list[tuple[str, Any]] = [("condition", str), *((m, Any) for m in ("query_id", "user_id"))]
            kind = msgspec.defstruct("ConditionScore", [*fields, *((m, Any) for m in result.evaluation.metrics)])
            for record in result.evaluation.scores.records():
                yield widen(kind, record, condition=result.name)


def answered(
    condition: Condition,
    policy: Policy,
    config: Config,
    *,
    reporter: Reporter | None = None,
    cache: CompletionCache | None = None,
) -> ConditionResult:
    """The policy's answers in one condition and their scores, not compared yet.

    Args:
        condition: What to show the policy.
        policy: Who writes.
        config: Decoding, metrics, resamples and the seed.
        reporter: Told about progress.
        cache: Of the policy's completions; a stopped run goes on where it was, and equal prompts are asked once.
    """
    writer = policy.with_prompt(condition.prompt) if condition.prompt else policy
    given = condition.thoughts
    beginnings = None if given is None else {query_id: writer.beginning(thought) for query_id, thought in given.items()}
    options: dict[str, Any] = {"reporter": reporter, "cache": cache, "beginnings": beginnings}
    written = list(generate(condition.queries, writer, config, stage=condition.name, **options))
    evaluation = evaluate(written, config.eval, seed=config.seed)
    return ConditionResult(condition.name, condition.facts, written, evaluation)


def compared(found: Sequence[ConditionResult], reference: str, config: Config) -> Conditions:
    """Each of the other conditions minus the reference, on every metric; their p are adjusted for all of them."""
    base = next(result for result in found if result.name == reference)
    raw = {result.name: _differences(result, base, config) for result in found if result is not base}
    differences = {name: {c.metric: c for c in comparisons} for name, comparisons in adjusted(raw).items()}
    return Conditions(reference, [replace(result, difference=differences.get(result.name, {})) for result in found])


def run_conditions(
    conditions: Iterable[Condition],
    reference: str,
    policy: Policy,
    config: Config,
    *,
    reporter: Reporter | None = None,
    cache: CompletionCache | None = None,
) -> Conditions:
    """Each condition's answers, their scores, and how they differ from those of the reference; see `answered`.

    A condition without queries is left out.

    Raises:
        DataError: If the reference has no queries.
        SettingsError: If a metric is unknown.
    """
    asked = [condition for condition in conditions if condition.queries]
    if reference not in {condition.name for condition in asked}:
        raise DataError(f"no queries for the condition '{reference}'", hint="name a split or a file that holds queries")
    found = [answered(condition, policy, config, reporter=reporter, cache=cache) for condition in asked]
    return compared(found, reference, config)


def _differences(result: ConditionResult, base: ConditionResult, config: Config) -> list[Comparison]:
    a, b = result.evaluation.scores, base.evaluation.scores
    metrics = list(_common_metrics(result, base))
    return compare_scores(a, b, metrics, config.eval.bootstrap, config.seed) if metrics else []


def _common_metrics(result: ConditionResult, base: ConditionResult) -> Iterator[str]:
    """The metrics that apply to at least one query in both."""
    a, b = result.evaluation.scores, base.evaluation.scores
    for metric in result.evaluation.metrics:
        applies = {query_id for query_id, value in zip(b.query_ids, b[metric], strict=True) if value is not None}
        scored = {query_id for query_id, value in zip(a.query_ids, a[metric], strict=True) if value is not None}
        if applies & scored:
            yield metric
