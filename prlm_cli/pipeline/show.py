"""`prlm show`: what the index holds, in counts, and one user's history."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import accumulate, islice
from typing import NamedTuple

from prlm_cli.core.dates import parse_period
from prlm_cli.core.errors import DataError
from prlm_cli.core.records import Document, Query
from prlm_cli.core.workspace import Workspace


class Size(NamedTuple):
    """How much there is of a user."""

    user_id: str
    documents: int
    queries: int


class Spread(NamedTuple):
    """The numbers of documents that users have."""

    min: int
    median: float
    mean: float
    max: int


@dataclass(frozen=True)
class Contents:
    """What the index holds.

    `queries` counts them by split, "none" for those without one; `encoders` the documents that each encoder has made a
    vector of; `shared_documents` is None where there is no shared corpus; `size_bytes` is that of all store files.
    """

    users: int
    documents: int
    queries: dict[str, int]
    language: str
    history: Spread
    encoders: dict[str, int]
    shared_documents: int | None
    size_bytes: int
    first_users: list[Size]


class History(NamedTuple):
    """One user's documents, newest first, and queries, in the order they came in."""

    documents: list[Document]
    queries: list[Query]


def show(workspace: Workspace, *, head: int = 0) -> Contents:
    """What the index holds, with the sizes of the first `head` users to come in.

    Raises:
        DataError: If there is no index.
    """
    shared = _shared_documents(workspace)
    size_bytes = sum(
        path.stat().st_size for path in workspace.folder.rglob("*.sqlite*") if path.suffix != ".sqlite-shm"
    )
    with workspace.open_store() as store, store.snapshot():
        first = [Size(*size) for size in islice(store.sizes(), head)]
        histories = Counter(documents for _, documents, _ in store.sizes())
        splits = store.splits()
        return Contents(
            users=histories.total(),
            documents=sum(size * users for size, users in histories.items()),
            queries={split or "none": splits[split] for split in sorted(splits, key=lambda split: split or "")},
            language=store.language,
            history=_spread(histories),
            encoders=store.encoders(),
            shared_documents=shared,
            size_bytes=size_bytes,
            first_users=first,
        )


def show_user(workspace: Workspace, user_id: str, *, head: int | None = None) -> History:
    """One user's history and queries; the newest `head` documents of it, where given.

    Raises:
        DataError: If there is no index, or no such user.
    """
    with workspace.open_store() as store, store.snapshot():
        if not store.has_user(user_id):
            raise DataError(f"no user '{user_id}' in the index")
        documents = sorted(store.documents(user_id), key=_age)[::-1]
        return History(documents[:head], list(store.queries(user_id=user_id)))


def _age(document: Document) -> tuple[bool, int]:
    """Ascending from the oldest; undated documents before all others, in the order they came in."""
    return (False, 0) if document.date is None else (True, parse_period(document.date).end)


def _shared_documents(workspace: Workspace) -> int | None:
    if not workspace.shared.exists():
        return None
    with workspace.open_store(shared=True) as store:
        return store.count()["documents"]


def _spread(histories: Counter[int]) -> Spread:
    """The spread of some sizes, of which it is known how often each occurs; zeros where there are none."""
    users = histories.total()
    if not users:
        return Spread(0, 0.0, 0.0, 0)
    ordered = sorted(histories.items())
    median = (_at(ordered, (users - 1) // 2) + _at(ordered, users // 2)) / 2
    mean = sum(size * count for size, count in ordered) / users
    return Spread(ordered[0][0], median, mean, ordered[-1][0])


def _at(ordered: list[tuple[int, int]], position: int) -> int:
    ends = accumulate(count for _, count in ordered)
    return next(size for (size, _), end in zip(ordered, ends, strict=True) if position < end)
