"""`prlm retrieve`: the k documents of its own user's history that fit each query best."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import TYPE_CHECKING

from msgspec import structs

from prlm_cli.core.errors import DataError
from prlm_cli.core.records import Query, Retrieved, widen
from prlm_cli.core.reporting import Reporter, Silent
from prlm_cli.core.settings import Engine, PromptSettings, RetrievalSettings
from prlm_cli.core.store import Store
from prlm_cli.pipeline.search import Search, own_search
from prlm_cli.pipeline.windows import WINDOW, answers, checked, windows

if TYPE_CHECKING:
    from prlm_cli.core.prompts import Task


def retrieve(
    store: Store,
    queries: Iterable[Query],
    settings: RetrievalSettings,
    *,
    prompt: PromptSettings | None = None,
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
        prompt: Where its prompts have cards, each query gets one.
        seed: Of the random retriever.
        window: How many queries to read ahead; 1 answers each before the next is read.
        engine: "ray" answers on the cores of a Ray cluster, each user's queries on the same one.
        reporter: Told at the end what was left out.

    Raises:
        DataError: If a query's date is not a date.
        StorageError: If the index is rebuilt in another language meanwhile.
        MissingError: If Ray is asked for and there is none.
    """
    # What is wrong with the settings is known before Ray starts.
    with Search(store, settings, seed=seed, carded=_carded(prompt)) as search:
        if engine == "ray":
            from prlm_cli.pipeline.retrieve_on_ray import answers_on_ray

            yield from answers_on_ray(search, queries, seed=seed, window=window)
        else:
            for batch in windows(queries, window):
                with store.snapshot():
                    search.check()
                    yield from answers(search, batch)
        search.report(reporter or Silent())


def with_card(store: Store, query: Retrieved, settings: RetrievalSettings, prompt: PromptSettings) -> Retrieved:
    """The query with the card that its prompt is to have, where it came without.

    One with another user's records stays as it is: only `swapped_profile` reads across users.

    Args:
        store: The index.
        query: With its records, from somewhere else.
        settings: Which documents it may see.
        prompt: Whether its prompt has a card, and of what.
    """
    if not prompt.card or not query.profile or query.card is not None or query.profile_user_id is not None:
        return query
    with own_search(store, settings, carded=_carded(prompt)) as search, store.snapshot():
        return structs.replace(query, card=search.card(checked(query), store.history(query.user_id)))


def swapped_profile(
    store: Store,
    query: Query,
    user_ids: Collection[str],
    settings: RetrievalSettings,
    *,
    prompt: PromptSettings | None = None,
    seed: int = 0,
) -> Retrieved:
    """The query with another user's records and card: the one function that reads across users, where one asks for it.

    Args:
        store: The index.
        query: The query.
        user_ids: Who may stand in; the query's own user is passed over.
        settings: How the other user's records are ranked.
        prompt: Where its prompts have cards, the query gets that of the other user.
        seed: Chooses the other user, together with the query's id.

    Raises:
        DataError: If no other user has a record that is old enough.
    """
    import random

    others = sorted({*user_ids} - {query.user_id})
    random.Random(f"swap:{seed}:{query.query_id}").shuffle(others)
    asked = structs.replace(checked(query), doc_ids=None)  # its own history is not theirs
    with Search(store, settings, seed=seed, carded=_carded(prompt)) as search:
        for user_id in others:
            with store.snapshot():
                history = store.history(user_id)
                hits = search.rank(asked, history)
                profile, card = search.read(user_id, hits), search.card(asked, history)
            if not all(hit.is_shared for hit in hits):
                shown = {"profile": profile, "card": card, "profile_user_id": user_id}
                return widen(Retrieved, query, retriever=settings.retriever, **shown)
    raise DataError(f"no other user has records for query {query.query_id}", hint="index more than one user")


def _carded(prompt: PromptSettings | None) -> Task | None:
    if prompt is None or not prompt.card:
        return None
    from prlm_cli.tasks import TASKS  # here, not above: a query without a card needs no prompts

    return TASKS[prompt.task]
