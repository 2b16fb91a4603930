"""What classifiers of authors learn from: titles older than a query, its own user's and others'.

Other users' titles serve classifiers alone. They are kept in memory and never written anywhere, so `forget` finds
nothing to remove.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from prlm_cli.core.history import Entry
from prlm_cli.core.records import Query
from prlm_cli.core.settings import RetrievalSettings
from prlm_cli.core.store import Store
from prlm_cli.retrievers.eligible import eligible, end_of_sight
from prlm_cli.rewards import Titles, asker

MAX_OTHERS = 2000
"""Titles of other users for one classifier: four times as many as 500 add .01 to its area under the curve."""

_MAX_POOL = 10 * MAX_OTHERS


class PooledTitle(NamedTuple):
    """A title; `until` is the last instant of its document's date in microseconds, None if undated."""

    user_id: str
    until: int | None
    text: str


def read_pool(store: Store, user_ids: Iterable[str], *, seed: int) -> list[PooledTitle]:
    """The titles of users drawn at random, whole histories, until there are enough for any classifier."""
    pool: list[PooledTitle] = []
    users = sorted(set(user_ids))
    random.Random(seed).shuffle(users)
    for user_id in users:
        if len(pool) >= _MAX_POOL:
            break
        with store.snapshot():
            entries = store.history(user_id).entries
            titles = _titles(store, user_id, entries)
        pool += [PooledTitle(user_id, e.until, text) for e, text in zip(entries, titles, strict=True) if text]
    return pool


class AuthorTitles:
    """The titles for each of some queries, read at once.

    Args:
        store: The index.
        queries: Whose own titles are read.
        pool: Titles that the others' are drawn from.
        settings: Which dates a query sees.
        seed: Of the draw.
    """

    def __init__(
        self,
        store: Store,
        queries: Iterable[Query],
        pool: Sequence[PooledTitle],
        settings: RetrievalSettings,
        *,
        seed: int,
    ) -> None:
        self._pool = pool
        self._settings = settings
        self._seed = seed
        self._own: dict[tuple[object, ...], list[str]] = {}
        by_user: dict[str, list[Query]] = {}
        for query in queries:
            by_user.setdefault(query.user_id, []).append(query)
        for user_id, own in by_user.items():
            self._read(store, user_id, own)

    def __call__(self, query: Query) -> Titles:
        """The titles for one of the queries; a title that the user has too is not one of the others'."""
        own = self._own[asker(query)]
        known = set(own)
        others = [title.text for title in self._pool if self._is_of_others(title, query) and title.text not in known]
        if len(others) > MAX_OTHERS:
            others = random.Random(f"{self._seed} {query.query_id}").sample(others, MAX_OTHERS)
        return Titles(own, others)

    def _read(self, store: Store, user_id: str, queries: Iterable[Query]) -> None:
        with store.snapshot():
            history = store.history(user_id)
            titles = _titles(store, user_id, history.entries)
            for query in queries:
                seen = eligible(query, history, self._settings)
                self._own[asker(query)] = [titles[position] for position in seen if titles[position]]

    def _is_of_others(self, title: PooledTitle, query: Query) -> bool:
        if title.user_id == query.user_id:
            return False
        end = end_of_sight(query, self._settings)
        if end is None:
            return True
        return title.until < end if title.until is not None else self._settings.undated == "keep"


def _titles(store: Store, user_id: str, entries: Sequence[Entry]) -> list[str]:
    """The title of each entry; empty where there is none."""
    documents = store.documents_at(user_id, [entry.rid for entry in entries])
    return [(document.title or "").strip() for document in documents]
