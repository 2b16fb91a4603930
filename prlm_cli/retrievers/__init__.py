"""Retrievers: a query and what it may see of its user's history -> the best k. One file and one line each."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple, Protocol

from prlm_cli.core.history import History
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


def best(scored: Iterable[tuple[float, int]], history: History, k: int) -> list[Ranked]:
    """The k best scores, k at least 1, best first; equal ones newest first, then by `doc_id`.

    Args:
        scored: Score and position of each candidate, in any order.
        history: What the positions are in.
        k: How many to give.
    """
    ranked = sorted(scored, reverse=True)  # positions are in the order of the dates
    end = min(k, len(ranked))
    while end < len(ranked) and _are_tied(ranked[end - 1], ranked[end], history):
        end += 1
    if any(_are_tied(one, two, history) for one, two in pairwise(ranked[:end])):  # only then are the ids worth reading
        ids, entries = history.doc_ids, history.entries
        dates = {
            position: (entries[position].until is not None, entries[position].until) for _, position in ranked[:end]
        }
        ranked[:end] = sorted(ranked[:end], key=lambda pair: ids[pair[1]])
        ranked[:end] = sorted(ranked[:end], key=lambda pair: (pair[0], *dates[pair[1]]), reverse=True)
    return [Ranked(position, score) for score, position in ranked[:k]]


def _are_tied(one: tuple[float, int], two: tuple[float, int], history: History) -> bool:
    return one[0] == two[0] and history.entries[one[1]].until == history.entries[two[1]].until


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
