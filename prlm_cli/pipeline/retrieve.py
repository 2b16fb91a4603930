"""`prlm retrieve`: the k documents of its own user's history that fit each query best."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from msgspec import structs

from prlm_cli.core.errors import DataError
from prlm_cli.core.records import Query, Retrieved, widen
from prlm_cli.core.reporting import Reporter, Silent
from prlm_cli.core.settings import Engine, RetrievalSettings
from prlm_cli.core.store import Store
from prlm_cli.pipeline.search import Search
from prlm_cli.pipeline.windows import WINDOW, answers, checked, windows


def retrieve(
    store: Store,
    queries: Iterable[Query],
    settings: RetrievalSettings,
    *,
    seed: int = 0,
    window: int = WINDOW,
    engine: Engine = "local",
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
        engine: "ray" answers on the cores of a Ray cluster, each user's queries on the same one.
        reporter: Told at the end what was left out.

    Raises:
        DataError: If a query's date is not a date.
        StorageError: If the index is rebuilt in another language meanwhile.
        MissingError: If Ray is asked for and there is none.
    """
    with Search(store, settings, seed=seed) as search:  # what is wrong with the settings is known before Ray starts
        if engine == "ray":
            from prlm_cli.pipeline.retrieve_on_ray import answers_on_ray

            yield from answers_on_ray(search, queries, seed=seed, window=window)
        else:
            for batch in windows(queries, window):
                with store.snapshot():
                    search.check()
                    yield from answers(search, batch)
        search.report(reporter or Silent())


def swapped_profile(
    store: Store, query: Query, user_ids: Collection[str], settings: RetrievalSettings, *, seed: int = 0
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
    asked = structs.replace(checked(query), doc_ids=None)  # its own history is not theirs
    with Search(store, settings, seed=seed) as search:
        for user_id in others:
            with store.snapshot():
                hits = search.rank(asked, store.history(user_id))
                profile = search.read(user_id, hits)
            if not all(hit.is_shared for hit in hits):
                return widen(Retrieved, query, profile=profile, retriever=settings.retriever, profile_user_id=user_id)
    raise DataError(f"no other user has records for query {query.query_id}", hint="index more than one user")
