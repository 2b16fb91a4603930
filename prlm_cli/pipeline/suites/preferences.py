"""Suites of preferences: choices by the policy under test, and its answers by judges."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import msgspec

from prlm_cli.core.records import Retrieved, with_records
from prlm_cli.core.reporting import Reporter
from prlm_cli.core.settings import Config
from prlm_cli.metrics.agreement import cohen_kappa
from prlm_cli.metrics.intervals import Interval, mean_interval
from prlm_cli.pipeline.choices import Chosen, MultipleChoice, choose
from prlm_cli.pipeline.choosers import Chooser
from prlm_cli.pipeline.generate import generate
from prlm_cli.pipeline.judge import Judged, Rivals, Verdict, judge, judge_figures
from prlm_cli.pipeline.policies import Writer
from prlm_cli.pipeline.suites.results import Figure

_ALL = "all"


class Asked(msgspec.Struct):
    """What a query's `meta` says that only the evaluation may see; `formats.realpref` tells of the fields."""

    kind: Literal["choice", "true_false", "open"]
    expression: str = ""
    preference: str | None = None
    options: list[str] = []
    gold: int = 0
    values: list[float] | None = None
    answers: list[str] | None = None
    label: Verdict | None = None


class ChoiceRecord(msgspec.Struct, frozen=True):
    """One question of a choice: shares over the orders in which it was asked."""

    query_id: str
    user_id: str
    accuracy: float
    consistency: float
    unread: float
    regret: float | None = None


class VerdictRecord(msgspec.Struct, frozen=True):
    """One pair of answers and a judge's verdict: `a` is the policy's with the history, or the first given one."""

    query_id: str
    user_id: str
    judge: str
    verdict: Verdict
    label: Verdict | None = None


def asked_of(query: Retrieved) -> Asked:
    """What is asked of a query."""
    return msgspec.convert(query.meta, Asked)


def choice_figures(
    chooser: Chooser, queries: Sequence[Retrieved], config: Config
) -> tuple[list[Figure], list[ChoiceRecord]]:
    """Accuracy, chance, consistency over orders and regret: of all, and of each kind and expression there is."""
    questions = [_choice(query) for query in queries]
    chosen = choose(chooser, questions, orders=config.judge.orders, seed=config.seed)
    figures = []
    for part, members in _parts(queries):
        some = [chosen[n] for n in members]
        figures += [_mean(name, part, some, of, config) for name, of in _OF_CHOICES.items()]
        if all(one.regret is not None for one in some):
            figures.append(_mean("regret", part, some, lambda one: one.regret or 0.0, config))
            figures.append(_mean("regret of chance", part, some, _regret_of_chance, config))
    records = [
        ChoiceRecord(q.query_id, q.user_id, one.accuracy, one.consistency, one.unread, one.regret)
        for q, one in zip(questions, chosen, strict=True)
    ]
    return figures, records


def judge_open(
    judges: Sequence[Chooser], rivals: Sequence[Rivals], what: str, config: Config
) -> tuple[list[Figure], list[VerdictRecord]]:
    """Each judge's verdicts on pairs of answers, and how far judges agree with each other and with people."""
    figures: list[Figure] = []
    records: list[VerdictRecord] = []
    verdicts: dict[str, list[Verdict]] = {}
    for one in judges:
        judged = judge(one, rivals)
        found = judge_figures(judged, resamples=config.eval.bootstrap, seed=config.seed)
        part = f"{what}, by {one.name}"
        figures += [Figure.with_interval(name, part, value) for name, value in found._asdict().items()]
        figures += _agreement_with_people(judged, part)
        records += [
            VerdictRecord(j.rivals.query_id, j.rivals.user_id, one.name, j.verdict, j.rivals.label) for j in judged
        ]
        verdicts[one.name] = [j.verdict for j in judged]
    names = list(verdicts)
    for position, a in enumerate(names):
        for b in names[position + 1 :]:
            kappa = cohen_kappa(verdicts[a], verdicts[b])
            figures.append(Figure("kappa", f"{what}, {a} and {b}", kappa, n=len(rivals)))
    return figures, records


def own_answers(writer: Writer, queries: Sequence[Retrieved], config: Config, reporter: Reporter) -> list[Rivals]:
    """The policy's answer to each open question with the user's history (a) and without (b); unread ones are empty."""
    bare = [with_records(query, []) for query in queries]
    with_history = generate(queries, writer, config, reporter=reporter, stage="with history")
    without = generate(bare, writer, config, reporter=reporter, stage="without history")
    return [
        _rivals(query, a.answer or "", b.answer or "", None)
        for query, a, b in zip(queries, with_history, without, strict=True)
    ]


def given_answers(queries: Iterable[Retrieved]) -> list[Rivals]:
    """The pairs of answers that the questions bring, with the labels of people."""
    asked = [(query, asked_of(query)) for query in queries]
    return [_rivals(query, one.answers[0], one.answers[1], one.label) for query, one in asked if one.answers]


def _rivals(query: Retrieved, a: str, b: str, label: Verdict | None) -> Rivals:
    preference = asked_of(query).preference
    return Rivals(query.query_id, query.user_id, query.text, a, b, query.profile, preference, label)


def _choice(query: Retrieved) -> MultipleChoice:
    asked = asked_of(query)
    facts = (asked.options, asked.gold, query.profile, asked.values)
    return MultipleChoice(query.query_id, query.user_id, query.text, *facts)


def _parts(queries: Sequence[Retrieved]) -> list[tuple[str, list[int]]]:
    """All, and then each kind and expression where there are several."""
    parts: dict[str, list[int]] = {}
    for n, query in enumerate(queries):
        asked = asked_of(query)
        parts.setdefault(" ".join(filter(None, (asked.kind, asked.expression))), []).append(n)
    everything = [(_ALL, list(range(len(queries))))]
    return everything + (sorted(parts.items()) if len(parts) > 1 else [])


_OF_CHOICES: dict[str, Callable[[Chosen], float]] = {
    "accuracy": lambda one: one.accuracy,
    "chance": lambda one: 1 / len(one.question.options),
    "consistency": lambda one: one.consistency,
    "unread": lambda one: one.unread,
}


def _regret_of_chance(one: Chosen) -> float:
    values: Any = one.question.values
    return float(max(values) - sum(values) / len(values))


def _mean(name: str, part: str, chosen: Sequence[Chosen], of: Callable[[Chosen], float], config: Config) -> Figure:
    users = [one.question.user_id for one in chosen]
    interval: Interval = mean_interval(
        [of(one) for one in chosen], users, resamples=config.eval.bootstrap, seed=config.seed
    )
    return Figure.with_interval(name, part, interval)


def _agreement_with_people(judged: Sequence[Judged], part: str) -> list[Figure]:
    labelled = [(one.verdict, one.rivals.label) for one in judged if one.rivals.label is not None]
    if not labelled:
        return []
    verdicts, labels = zip(*labelled, strict=True)
    return [
        Figure(
            "agreement", f"{part} and people", sum(v == label for v, label in labelled) / len(labelled), n=len(labels)
        ),
        Figure("kappa", f"{part} and people", cohen_kappa(verdicts, labels), n=len(labels)),
    ]
