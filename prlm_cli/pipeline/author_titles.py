"""What the classifiers of authors learn from: titles of the training users' histories, as of each query's date."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import NamedTuple

from prlm_cli.core.records import Query
from prlm_cli.core.settings import RetrievalSettings
from prlm_cli.core.store import Store
from prlm_cli.retrievers.eligible import eligible, end_of_sight
from prlm_cli.rewards import Titles

MAX_OTHERS = 2000
"""Titles of other users for one classifier: four times as many as 500 add .01 to its area under the curve."""

_MAX_POOL = 10 * MAX_OTHERS


class _Title(NamedTuple):
    """A title; `until` is the last instant of its document's date in microseconds, None if undated."""

    user_id: str
    until: int | None
    text: str


class AuthorTitles:
    """Titles older than a query: its own user's, and a sample of the other users'.

    Another user's titles serve a classifier alone. They are read once, kept in memory, and never written anywhere, so
    `forget` finds nothing to remove.

    Args:
        store: The index, of one state.
        queries: The training queries; only their users' histories are read.
        settings: Which dates a query sees.
        seed: Of the sample.
    """

    def __init__(self, store: Store, queries: Iterable[Query], settings: RetrievalSettings, *, seed: int) -> None:
        self._settings = settings
        self._seed = seed
        self._own: dict[str, list[str]] = {}
        pool: list[_Title] = []
        by_user: dict[str, list[Query]] = {}
        for query in queries:
            by_user.setdefault(query.user_id, []).append(query)
        for user_id in sorted(by_user):
            pool += self._read(store, user_id, by_user[user_id])
        self._pool = pool if len(pool) <= _MAX_POOL else random.Random(seed).sample(pool, _MAX_POOL)

    def __call__(self, query: Query) -> Titles:
        """The titles for one of the training queries; a title that the user has too is not one of the others'."""
        own = self._own[query.query_id]
        known = set(own)
        others = [title.text for title in self._pool if self._is_of_others(title, query) and title.text not in known]
        if len(others) > MAX_OTHERS:
            others = random.Random(f"{self._seed} {query.query_id}").sample(others, MAX_OTHERS)
        return Titles(own, others)

    def _read(self, store: Store, user_id: str, queries: Iterable[Query]) -> list[_Title]:
        """Keeps what each query of a user sees, and returns all of the user's titles."""
        with store.snapshot():
            history = store.history(user_id)
            documents = store.documents_at(user_id, [entry.rid for entry in history.entries])
        titles = [(document.title or "").strip() for document in documents]
        for query in queries:
            seen = eligible(query, history, self._settings)
            self._own[query.query_id] = [titles[position] for position in seen if titles[position]]
        dated = zip(history.entries, titles, strict=True)
        return [_Title(user_id, entry.until, title) for entry, title in dated if title]

    def _is_of_others(self, title: _Title, query: Query) -> bool:
        if title.user_id == query.user_id:
            return False
        end = end_of_sight(query, self._settings)
        if end is None:
            return True
        return title.until < end if title.until is not None else self._settings.undated == "keep"
