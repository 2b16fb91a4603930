"""The queries that a command works on: those of its input, of the index, or made from the histories."""

from __future__ import annotations

from collections.abc import Iterator

from prlm_cli.core.dates import parse_period
from prlm_cli.core.errors import DataError
from prlm_cli.core.records import Document, Query
from prlm_cli.core.store import Store

MIN_HISTORY = 4
"""Oldest documents of a user that stay profile only when queries are made from a history."""

LEAST_TITLED = MIN_HISTORY + 3
"""Titled documents of a user from which a training query can be made: one more is its dev query, one its test query."""


def stored_queries(store: Store, split: str, *, user_id: str | None = None) -> Iterator[Query]:
    """The queries of a split, of one user where given.

    Where the index holds no training queries, the splits that it lacks are made from the histories: of each user's
    titled documents the newest becomes `test`, the one before it `dev`, the rest `train`, down to a minimum history.

    Raises:
        DataError: If the user is unknown.
    """
    if user_id is not None and not store.has_user(user_id):
        raise DataError(f"no user '{user_id}' in the index", hint="index some of the user's documents first")
    if store.has_queries("train") or store.has_queries(split):
        yield from store.queries(split=split, user_id=user_id)
        return
    for user in [user_id] if user_id is not None else store.users():
        yield from (query for query in made_from_history(store.documents(user)) if query.split == split)


def open_queries(store: Store, user_id: str) -> Iterator[Query]:
    """A user's queries that nobody has answered yet; where all have a target, those of the test split.

    Raises:
        DataError: If the user is unknown.
    """
    if not store.has_user(user_id):
        raise DataError(f"no user '{user_id}' in the index", hint="index some of the user's documents first")
    unanswered = [query for query in store.queries(user_id=user_id) if query.target is None]
    yield from unanswered or stored_queries(store, "test", user_id=user_id)


def made_from_history(documents: list[Document]) -> Iterator[Query]:
    """The queries that one user's documents give, oldest first: a document's text asks, its title is the target."""
    titled = [document for document in documents if document.title]
    if all(document.date is not None for document in titled):
        titled.sort(key=lambda document: parse_period(document.date or 0).end)
    for position, document in enumerate(titled[MIN_HISTORY:], start=MIN_HISTORY):
        from_end = len(titled) - 1 - position
        yield Query(
            query_id=made_query_id(document.user_id, document.doc_id),
            user_id=document.user_id,
            text=document.text,
            target=document.title,
            date=document.date,
            split="test" if from_end == 0 else "dev" if from_end == 1 else "train",
            source_doc_id=document.doc_id,
        )


def made_query_id(user_id: str, doc_id: str) -> str:
    """The id of the query that is made from a document; no two pairs of user and document give the same."""
    return f"{user_id.replace('%', '%25').replace(':', '%3A')}:{doc_id}"
