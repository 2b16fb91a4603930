"""Queries, so many at a time: read ahead, and answered so that each user's history is read once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

from prlm_cli.core.dates import parse_period
from prlm_cli.core.errors import DataError, PrlmError
from prlm_cli.core.records import Query, Retrieved, widen
from prlm_cli.pipeline.search import Search
from prlm_cli.retrievers.hit import Hit

Asked = TypeVar("Asked", bound=Query)

WINDOW = 10_000
"""Queries that are read ahead."""


def windows(queries: Iterable[Asked], size: int) -> Iterator[list[Asked]]:
    """The queries, so many at a time; what is wrong with one is raised after those before it were given.

    Raises:
        DataError: If a query's date is not a date.
    """
    stream = map(checked, queries)
    wrong = None
    while wrong is None:
        batch: list[Asked] = []
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
    """Each query of a window with its records and its card, in their order; each user's history is read once."""
    of_user: dict[str, list[int]] = {}
    for n, query in enumerate(batch):
        of_user.setdefault(query.user_id, []).append(n)
    found: dict[int, tuple[list[Hit], str | None]] = {}
    for n, query in enumerate(batch):
        if n not in found:
            history = search.store.history(query.user_id)
            asked = ((other, batch[other]) for other in of_user[query.user_id])
            found |= {other: (search.rank(one, history), search.card(one, history)) for other, one in asked}
        hits, card = found.pop(n)
        profile = search.read(query.user_id, hits)
        yield widen(Retrieved, query, profile=profile, retriever=search.settings.retriever, card=card)


def checked(query: Asked) -> Asked:
    """The query, if its date, where it has one, is a date.

    Raises:
        DataError: If it is none.
    """
    try:
        if query.date is not None:
            parse_period(query.date)
    except (ValueError, OverflowError, OSError) as error:
        raise DataError(f"query {query.query_id}: field 'date' is not a date", hint="ISO 8601") from error
    return query
