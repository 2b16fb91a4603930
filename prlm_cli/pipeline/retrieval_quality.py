"""`prlm eval --retrieval`: how useful what was retrieved is, known before anything is trained.

A record is useful where the short text that its user made of it, its title, shares words with what the user really
wrote this time. A retriever is held against `recency`, `random`, and a wrong user: itself on another user's records.
"""

from __future__ import annotations

import math
import random
import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from prlm_cli.core import jsonl
from prlm_cli.core.errors import DataError, SettingsError
from prlm_cli.core.records import ProfileDocument, Query, Retrieved
from prlm_cli.core.reporting import Reporter, Silent
from prlm_cli.core.settings import RetrievalSettings
from prlm_cli.core.store import Store
from prlm_cli.metrics.intervals import Interval, mean_interval, paired_interval
from prlm_cli.metrics.rouge import rouge
from prlm_cli.pipeline.retrieve import retrieve, swapped_profile

WRONG_USER = "wrong user"
_CONTROLS = ("recency", "random", WRONG_USER)  # the wrong user last: a query that is no good has raised by then
# Settings that say which records a query may see hold for the controls too; the others say how records are ranked.
_ELIGIBILITY = ("undated", "as_of", "since", "where")
_WINDOW = 1000  # queries in memory with their records
_STAND_INS = 1000  # users of whom one is the wrong one; every query shuffles them all

Value = TypeVar("Value")


class Measures(msgspec.Struct, Generic[Value], frozen=True):
    """One value a measure: the best and the mean of a query's records, in ROUGE-1 (unigram) F1 and in ROUGE-L F1."""

    best_rouge1: Value
    mean_rouge1: Value
    best_rougeL: Value
    mean_rougeL: Value


MEASURES: tuple[str, ...] = Measures.__struct_fields__


class RetrieverQuality(msgspec.Struct, frozen=True, kw_only=True):
    """What one retriever's records share with the targets of `n` queries.

    `empty` of the queries got no record and score 0. `chosen_minus` is the paired difference of the chosen retriever
    and this one, over the queries that both were asked for; None for the chosen one itself.
    """

    retriever: str
    n: int
    empty: int
    overlap: Measures[Interval]
    chosen_minus: Measures[Interval] | None


class QueryOverlap(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one retriever's records for one query share with its target.

    `records` tells how many there were, `profile_user_id` whose they were where they were another user's.
    """

    query_id: str
    user_id: str
    retriever: str
    profile_user_id: str | None = None
    records: int
    best_rouge1: float
    mean_rouge1: float
    best_rougeL: float
    mean_rougeL: float


class Overlaps:
    """The overlaps of each retriever, query by query.

    An array a measure, as a million queries come in a stream: their texts are gone, and a number takes 8 bytes.
    """

    def __init__(self) -> None:
        self.query_ids: list[str] = []
        self.user_ids: list[str] = []
        self.rows: dict[str, _Row] = {}

    def __len__(self) -> int:
        return len(self.query_ids)

    def add(self, queries: Sequence[Query], found: Iterable[tuple[str, Iterable[Retrieved | None]]]) -> None:
        """Adds queries with what each retriever found for them; None where it could not be asked."""
        self.query_ids += (query.query_id for query in queries)
        self.user_ids += (sys.intern(query.user_id) for query in queries)
        for retriever, records in found:
            row = self.rows.setdefault(retriever, _Row())
            for query, record in zip(queries, records, strict=True):
                row.add(record, _target(query))

    def records(self) -> Iterator[QueryOverlap]:
        """One record a query and retriever."""
        for n, (query_id, user_id) in enumerate(zip(self.query_ids, self.user_ids, strict=True)):
            for retriever, row in self.rows.items():
                if row.is_measured(n):
                    yield QueryOverlap(
                        query_id=query_id,
                        user_id=user_id,
                        retriever=retriever,
                        profile_user_id=row.owners[n],
                        records=row.counts[n],
                        **{measure: column[n] for measure, column in zip(MEASURES, row.columns, strict=True)},
                    )


class _Row:
    """One retriever's numbers, in the order of the queries: NaN and no records where it could not be asked."""

    def __init__(self) -> None:
        self.columns = [array("d") for _ in MEASURES]
        self.counts = array("q")
        self.owners: list[str | None] = []

    def add(self, record: Retrieved | None, target: str) -> None:
        values = msgspec.structs.astuple(overlap(record.profile, target)) if record else [math.nan] * len(MEASURES)
        for column, value in zip(self.columns, values, strict=True):
            column.append(value)
        self.counts.append(len(record.profile) if record else 0)
        owner = record.profile_user_id if record else None
        self.owners.append(owner and sys.intern(owner))

    def is_measured(self, n: int) -> bool:
        return not math.isnan(self.columns[0][n])


@dataclass(frozen=True)
class RetrievalQuality:
    """How useful each retriever's records are; the chosen one comes first.

    `k` is the most records that a query got, `without_target` counts the queries that were left out.
    """

    n: int
    users: int
    k: int
    without_target: int
    retrievers: list[RetrieverQuality]
    overlaps: Overlaps

    def as_dict(self) -> dict[str, Any]:
        """The figures without those of the single queries, as JSON takes them."""
        return {name: getattr(self, name) for name in ("n", "users", "k", "without_target", "retrievers")}


def retrieval_quality(
    store: Store | None,
    queries: Iterable[Query],
    settings: RetrievalSettings,
    *,
    bootstrap: int = 2000,
    seed: int = 0,
    reporter: Reporter | None = None,
) -> RetrievalQuality:
    """How much the titles of retrieved records share with the targets, beside the controls.

    Every mean and every difference has its 95 % interval, clustered by user. A control gives a query as many records
    as the chosen retriever did (and `settings.k` where that was none), so that the best is one of as many.

    Args:
        store: The index; None where there is none, and then retrieved records stand alone.
        queries: Queries, to be retrieved for, or retrieved records, taken as they are. Those without a target are left
            out.
        settings: The chosen retriever; with retrieved records only that of the wrong user.
        bootstrap: Resamples of users behind each interval.
        seed: Of the random order, the wrong users and the resamples.
        reporter: Told about progress, and about rows that are missing.

    Raises:
        DataError: If no query has a target, retrieved records are of two retrievers, or there is nothing to retrieve
            from.
        SettingsError: If the settings retrieve nothing.
    """
    _check_settings(settings)
    reporter = reporter or Silent()
    stage = reporter.stage("retrieval")
    controls = _Controls(store, settings, seed) if store else None
    overlaps, without_target = Overlaps(), 0
    for window in _windows(queries):
        chosen = _chosen(store, [query for query in window if _target(query)], settings, seed)
        without_target += len(window) - len(chosen)
        if chosen:
            _check_retriever(chosen, next(iter(overlaps.rows), chosen[0].retriever))
            overlaps.add(chosen, _found(chosen, controls, settings.k))
        stage(len(overlaps) + without_target)
    if not overlaps:
        wrong = f"none of {without_target} queries has a target" if without_target else "no queries to evaluate"
        raise DataError(wrong, hint="give queries with their targets, what their users really wrote")
    stage(len(overlaps) + without_target, len(overlaps) + without_target)
    _drop_unmeasured(overlaps, controls, reporter)
    return RetrievalQuality(
        n=len(overlaps),
        users=len(set(overlaps.user_ids)),
        k=max(next(iter(overlaps.rows.values())).counts),
        without_target=without_target,
        retrievers=list(_summaries(overlaps, bootstrap, seed)),
        overlaps=overlaps,
    )


def overlap(profile: Sequence[ProfileDocument], target: str) -> Measures[float]:
    """What the titles of the records share with the target, each measure in [0, 1]; 0 without records.

    A record without a title counts with its text.
    """
    if not profile:
        return Measures(0.0, 0.0, 0.0, 0.0)
    scores = [rouge(document.title or document.text, target) for document in profile]
    words, in_order = [score.rouge1 for score in scores], [score.rouge_l for score in scores]
    return Measures(max(words), math.fsum(words) / len(words), max(in_order), math.fsum(in_order) / len(in_order))


def read_queries(path: Path) -> Iterator[Query]:
    """The queries of a file, or of standard input for `-`; one with a profile is a retrieved record.

    Raises:
        DataError: If a line is neither.
    """
    for where, fields in jsonl.read_lines(path):
        yield jsonl.validate(where, fields, Retrieved if "profile" in fields else Query)


class _Controls:
    """What the chosen records are held against; `fault` says why a query had no wrong user."""

    def __init__(self, store: Store, settings: RetrievalSettings, seed: int) -> None:
        self._store, self._settings, self._seed = store, settings, seed
        users = sorted(store.users())
        self._stand_ins = random.Random(f"stand-ins:{seed}").sample(users, min(len(users), _STAND_INS))
        self.fault = ""

    def retrieve(self, control: str, queries: Sequence[Query], k: int) -> Iterator[Retrieved | None]:
        """The records of a control; None where nobody else has one that is old enough."""
        if control == WRONG_USER:
            settings = msgspec.structs.replace(self._settings, k=k)
            return (self._swapped(query, settings) for query in queries)
        eligibility = {name: getattr(self._settings, name) for name in _ELIGIBILITY}
        plain = RetrievalSettings.of({"retriever": control, "k": k, **eligibility})
        return retrieve(self._store, queries, plain, seed=self._seed)

    def _swapped(self, query: Query, settings: RetrievalSettings) -> Retrieved | None:
        try:
            return swapped_profile(self._store, query, self._stand_ins, settings, seed=self._seed)
        except DataError as error:
            self.fault = str(error)
            return None


def _found(
    chosen: list[Retrieved], controls: _Controls | None, k: int
) -> Iterator[tuple[str, Iterable[Retrieved | None]]]:
    """The chosen records and those of each control, by the retriever's name."""
    label = chosen[0].retriever
    yield label, chosen
    if controls is None:
        return
    limits = [len(record.profile) or k for record in chosen]
    queries = [_without_records(record) for record in chosen]
    for control in _CONTROLS:
        if control != label:
            records = controls.retrieve(control, queries, max(limits))
            yield control, (record and _cut(record, limit) for record, limit in zip(records, limits, strict=True))


def _chosen(store: Store | None, queries: list[Query], settings: RetrievalSettings, seed: int) -> list[Retrieved]:
    """The queries with the records that came with them, or those of their own users' histories."""
    bare = [query for query in queries if not isinstance(query, Retrieved)]
    if bare and store is None:
        raise DataError(f"no index to retrieve records for query {bare[0].query_id} from", hint="run `prlm index DATA`")
    found = retrieve(store, bare, settings, seed=seed) if store else iter(())
    return [query if isinstance(query, Retrieved) else next(found) for query in queries]


def _drop_unmeasured(overlaps: Overlaps, controls: _Controls | None, reporter: Reporter) -> None:
    if controls is None:
        reporter.note("no index to retrieve from: nothing to hold these records against")
    elif not any(map(overlaps.rows[WRONG_USER].is_measured, range(len(overlaps)))):
        del overlaps.rows[WRONG_USER]
        reporter.note(f"no row of a wrong user: {controls.fault}")


def _summaries(overlaps: Overlaps, bootstrap: int, seed: int) -> Iterator[RetrieverQuality]:
    chosen = next(iter(overlaps.rows.values()))
    for retriever, row in overlaps.rows.items():
        rows = [n for n in range(len(overlaps)) if row.is_measured(n)]
        user_ids = [overlaps.user_ids[n] for n in rows]
        own, others = ([[column[n] for n in rows] for column in of.columns] for of in (row, chosen))
        means = [mean_interval(column, user_ids, resamples=bootstrap, seed=seed) for column in own]
        differences = [
            paired_interval(a, b, user_ids, resamples=bootstrap, seed=seed) for a, b in zip(others, own, strict=True)
        ]
        yield RetrieverQuality(
            retriever=retriever,
            n=len(rows),
            empty=sum(row.counts[n] == 0 for n in rows),
            overlap=Measures(*means),
            chosen_minus=None if row is chosen else Measures(*differences),
        )


def _windows(queries: Iterable[Query]) -> Iterator[list[Query]]:
    rest = iter(queries)
    return iter(lambda: list(islice(rest, _WINDOW)), [])


def _without_records(record: Retrieved) -> Query:
    return Query(**{name: getattr(record, name) for name in Query.__struct_fields__})


def _cut(record: Retrieved, limit: int) -> Retrieved:
    return msgspec.structs.replace(record, profile=record.profile[:limit])


def _target(query: Query) -> str:
    return (query.target or "").strip()


def _check_settings(settings: RetrievalSettings) -> None:
    if settings.retriever == "none":
        raise SettingsError("retriever 'none' retrieves nothing", hint="choose another with --retriever")
    if settings.k == 0:
        raise SettingsError("retrieval.k is 0: nothing is retrieved", hint="ask for at least one record, -k 1")


def _check_retriever(chosen: list[Retrieved], expected: str) -> None:
    for record in chosen:
        if record.retriever != expected:
            raise DataError(
                f"query {record.query_id}: records of retriever '{record.retriever}' after those of '{expected}'",
                hint="evaluate one retriever at a time",
            )
