"""Retrievers: a query and its user's eligible documents -> the same documents, ranked. One file and one line each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from prlm_cli.core.records import Query
from prlm_cli.core.registry import Registry
from prlm_cli.core.store import Entry


class Ranked(NamedTuple):
    """A document's entry and its score; higher is better."""

    entry: Entry
    score: float


class Retriever(Protocol):
    """Ranks documents of one user for one query of that user."""

    def __call__(self, query: Query, eligible: Sequence[Entry], *, seed: int) -> list[Ranked]:
        """All eligible documents that the retriever would show, best first."""
        ...


def by_score(scored: list[Ranked]) -> list[Ranked]:
    """Best score first; equal scores newest first, then by `doc_id`."""
    return sorted(scored, key=lambda r: (-r.score, -(r.entry.until or 0), r.entry.doc_id))


RETRIEVERS: Registry[Retriever] = Registry(
    "retriever",
    {
        "bm25": "prlm_cli.retrievers.bm25:bm25",
        "recency": "prlm_cli.retrievers.recency:recency",
        "random": "prlm_cli.retrievers.shuffled:shuffled",
        "none": "prlm_cli.retrievers.none:none",
    },
)
