"""`prlm retrieve`: the k documents of its own user's history that fit each query best."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from prlm_cli.core.dates import parse_period
from prlm_cli.core.errors import DataError
from prlm_cli.core.records import ProfileDocument, Query, Retrieved, widen
from prlm_cli.core.settings import RetrievalSettings
from prlm_cli.core.store import Entry, Store
from prlm_cli.retrievers import RETRIEVERS
from prlm_cli.retrievers.eligible import eligible


def retrieve(
    store: Store, queries: Iterable[Query], settings: RetrievalSettings, *, seed: int = 0
) -> Iterator[Retrieved]:
    """Each query with its records, in the order of the queries, one at a time.

    Only documents of the query's own user are read, and only those strictly older than the query.

    Raises:
        DataError: If a query's date is not a date.
    """
    for query in queries:
        profile = _profile(store, query, query.user_id, settings, seed)
        yield widen(Retrieved, query, profile=profile, retriever=settings.retriever)


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
    for user_id in others:
        if profile := _profile(store, query, user_id, settings, seed):
            return widen(Retrieved, query, profile=profile, retriever=settings.retriever, profile_user_id=user_id)
    raise DataError(f"no other user has records for query {query.query_id}", hint="index more than one user")


def _profile(store: Store, query: Query, user_id: str, settings: RetrievalSettings, seed: int) -> list[ProfileDocument]:
    if settings.k == 0 or settings.retriever == "none":
        return []
    _check_date(query)
    entries: list[Entry] = store.entries(user_id)
    candidates = eligible(query, entries, keep_undated=settings.undated == "keep")
    ranked = RETRIEVERS[settings.retriever](query, candidates, seed=seed)[: settings.k]
    documents = store.documents(user_id, [entry.doc_id for entry, _ in ranked])
    return [
        ProfileDocument(
            doc_id=document.doc_id, text=document.text, title=document.title, date=document.date, score=score, rank=rank
        )
        for rank, (document, (_, score)) in enumerate(zip(documents, ranked, strict=True), start=1)
    ]


def _check_date(query: Query) -> None:
    try:
        if query.date is not None:
            parse_period(query.date)
    except (ValueError, OverflowError, OSError) as error:
        raise DataError(f"query {query.query_id}: field 'date' is not a date", hint="ISO 8601") from error
