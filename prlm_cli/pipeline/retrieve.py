"""`prlm retrieve`: the k documents of its own user's history that fit each query best."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from msgspec import structs

from prlm_cli.core.dates import parse_period
from prlm_cli.core.errors import DataError, PrlmError
from prlm_cli.core.records import Query, Retrieved, widen
from prlm_cli.core.reporting import Reporter, Silent
from prlm_cli.core.settings import RetrievalSettings
from prlm_cli.core.store import Store
from prlm_cli.pipeline.search import Search
from prlm_cli.retrievers.hit import Hit

WINDOW = 10_000
"""Queries that are read ahead, so that each user's history is read once for all of them."""


def retrieve(
    store: Store,
    queries: Iterable[Query],
    settings: RetrievalSettings,
    *,
    seed: int = 0,
    window: int = WINDOW,
    reporter: Reporter | None = None,
) -> Iterator[Retrieved]:
    """Each query with its records, in the order of the queries, one at a time.

    Only documents of the query's own user are read, and only those strictly older than the query. The queries of a
    window see one state of the store.

    Args:
        store: The index.
        queries: The queries; a window of them is held in memory.
        settings: How the documents are ranked.
        seed: Of the random retriever.
        window: How many queries to read ahead; 1 answers each before the next is read.
        reporter: Told at the end what was left out.

    Raises:
        DataError: If a query's date is not a date.
    """
    with Search(store, settings, seed=seed) as search:
        for batch in windows(queries, window):
            with store.snapshot():
                yield from answers(search, batch)
        search.report(reporter or Silent())


def swapped_profile(
    store: Store, query: Query, user_ids: Sequence[str], settings: RetrievalSettings, *, seed: int = 0
) -> Retrieved:
    """The query with another user's records: the one function that reads across users, for controls that ask for it.

    Args:
        store: The index.
        query: The query.
        user_ids: Who may stand in; the query's own user is passed over.
        settings: How the other user's records are ranked.
        seed: Chooses the other user, together with the query's id.

    Raises:
        DataError: If no other user has a record that is old enough.
    """
    import random

    others = sorted({*user_ids} - {query.user_id})
    random.Random(f"swap:{seed}:{query.query_id}").shuffle(others)
    asked = structs.replace(_checked(query), doc_ids=None)  # its own history is not theirs
    with Search(store, settings, seed=seed) as search:
        for user_id in others:
            with store.snapshot():
                hits = search.rank(asked, store.history(user_id))
                profile = search.read(user_id, hits)
            if not all(hit.is_shared for hit in hits):
                return widen(Retrieved, query, profile=profile, retriever=settings.retriever, profile_user_id=user_id)
    raise DataError(f"no other user has records for query {query.query_id}", hint="index more than one user")


def windows(queries: Iterable[Query], size: int) -> Iterator[list[Query]]:
    """The queries, so many at a time; what is wrong with one is raised after those before it were given.

    Raises:
        DataError: If a query's date is not a date.
    """
    stream = map(_checked, queries)
    wrong = None
    while wrong is None:
        batch: list[Query] = []
        try:
            batch.extend(islice(stream, size))
        except PrlmError as error:
            wrong = error
        if batch:
            yield batch
        if len(batch) < size:
            break
    if wrong:
        raise wrong


def answers(search: Search, batch: Sequence[Query]) -> Iterator[Retrieved]:
    """Each query of a window with its records, in their order; each user's history is read once."""
    of_user: dict[str, list[int]] = {}
    for n, query in enumerate(batch):
        of_user.setdefault(query.user_id, []).append(n)
    ranked: dict[int, list[Hit]] = {}
    for n, query in enumerate(batch):
        if n not in ranked:
            history = search.store.history(query.user_id)
            ranked |= {other: search.rank(batch[other], history) for other in of_user[query.user_id]}
        profile = search.read(query.user_id, ranked.pop(n))
        yield widen(Retrieved, query, profile=profile, retriever=search.settings.retriever)


def _checked(query: Query) -> Query:
    try:
        if query.date is not None:
            parse_period(query.date)
    except (ValueError, OverflowError, OSError) as error:
        raise DataError(f"query {query.query_id}: field 'date' is not a date", hint="ISO 8601") from error
    return query
