"""Retrievers: a query and what it may see of its user's history -> the best k. One file and one line each."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple, Protocol

from prlm_cli.core.history import Entry, History
from prlm_cli.core.records import Query
from prlm_cli.core.registry import Registry
from prlm_cli.core.settings import RetrievalSettings
from prlm_cli.core.store import Store
from prlm_cli.retrievers.eligible import Eligible


class Ranked(NamedTuple):
    """A document, by its position in the history, and its score; higher is better."""

    position: int
    score: float


class Retriever(Protocol):
    """Ranks documents of one user for one query of that user."""

    def __call__(self, query: Query, history: History, seen: Eligible, k: int) -> list[Ranked]:
        """The best k of the documents that the query may see, best first; all of them where there are fewer."""
        ...


class RetrieverType(Protocol):
    """What the registry holds: makes a retriever for one batch of queries."""

    def __call__(self, store: Store, settings: RetrievalSettings, *, seed: int) -> Retriever:
        """A retriever over a store's histories."""
        ...


def best(scored: Iterable[tuple[int, float]], history: History, k: int) -> list[Ranked]:
    """The k best scores, best first; equal ones newest first, then by `doc_id`.

    Args:
        scored: Position and score of each candidate, in any order.
        history: What the positions are in.
        k: How many to give.
    """
    ranked = sorted(scored, key=_by_score_and_age)
    if len(ranked) > k:
        last = ranked[k - 1][1] if k else float("inf")
        ranked = ranked[: next((n for n in range(k, len(ranked)) if ranked[n][1] < last), len(ranked))]
    if any(_are_tied(one, two, history) for one, two in pairwise(ranked)):  # only then are the ids worth reading
        ranked.sort(key=lambda pair: (-pair[1], *_newest_first(history.entries[pair[0]]), history.doc_ids[pair[0]]))
    return [Ranked(position, score) for position, score in ranked[:k]]


def _by_score_and_age(pair: tuple[int, float]) -> tuple[float, int]:
    return (-pair[1], -pair[0])  # positions are in the order of the dates


def _are_tied(one: tuple[int, float], two: tuple[int, float], history: History) -> bool:
    return one[1] == two[1] and history.entries[one[0]].until == history.entries[two[0]].until


def _newest_first(entry: Entry) -> tuple[bool, int]:
    return (entry.until is None, -(entry.until or 0))


RETRIEVERS: Registry[RetrieverType] = Registry(
    "retriever",
    {
        "bm25": "prlm_cli.retrievers.bm25:BM25",
        "bm25+": "prlm_cli.retrievers.variants:BM25Plus",
        "bm25l": "prlm_cli.retrievers.variants:BM25L",
        "atire": "prlm_cli.retrievers.variants:ATIRE",
        "robertson": "prlm_cli.retrievers.variants:Robertson",
        "dense": "prlm_cli.retrievers.dense:Dense",
        "hybrid": "prlm_cli.retrievers.hybrid:Hybrid",
        "recency": "prlm_cli.retrievers.recency:Recency",
        "random": "prlm_cli.retrievers.shuffled:Shuffled",
        "none": "prlm_cli.retrievers.none:Nothing",
    },
)
