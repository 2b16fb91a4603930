"""One user's history as retrieval sees it: dates and terms, without the texts."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from functools import cached_property
from operator import itemgetter
from typing import Any, NamedTuple

_BY_DATE = itemgetter(1, 0)


class Entry(NamedTuple):
    """What retrieval needs of a document: `until` is the last instant of its date, in microseconds, None if undated."""

    rid: int
    until: int | None
    fingerprint: bytes
    hashes: bytes

    @property
    def terms(self) -> array[int]:
        """The document's sorted term hashes."""
        found = array("Q")
        found.frombytes(self.hashes)
        return found


class History:
    """The entries of one user's documents, oldest first; undated ones before all others, in the order they came in.

    A document is named by its position here.

    Args:
        user_id: Whose history it is.
        entries: In any order.
        read_doc_ids: Gives the `doc_id` of every row id of the user; asked only where ids matter.
    """

    def __init__(
        self, user_id: str, entries: Sequence[Entry], read_doc_ids: Callable[[], dict[int, str]] = dict
    ) -> None:
        self.user_id = user_id
        undated = [entry for entry in entries if entry.until is None]
        dated = [entry for entry in entries if entry.until is not None] if undated else entries
        self.entries = [*sorted(undated), *sorted(dated, key=_BY_DATE)]
        self.derived: dict[str, Any] = {}
        """What retrievers make of the entries once, by a name of theirs; it goes with the history."""
        self._read_doc_ids = read_doc_ids

    def __len__(self) -> int:
        return len(self.entries)

    @cached_property
    def size(self) -> int:
        """How many terms all entries have together."""
        return sum(len(entry.hashes) for entry in self.entries) >> 3

    @cached_property
    def untils(self) -> list[int]:
        """The dates of the dated entries, ascending; the first is that of position `undated`."""
        return [entry.until for entry in self.entries if entry.until is not None]

    @property
    def undated(self) -> int:
        """How many entries have no date."""
        return len(self.entries) - len(self.untils)

    @cached_property
    def doc_ids(self) -> list[str]:
        """The `doc_id` of each position."""
        by_rid = self._read_doc_ids()
        return [by_rid[entry.rid] for entry in self.entries]

    @cached_property
    def positions(self) -> dict[str, int]:
        """The position of each `doc_id`."""
        return {doc_id: position for position, doc_id in enumerate(self.doc_ids)}

    @cached_property
    def _texts(self) -> frozenset[bytes]:
        return frozenset([entry.fingerprint for entry in self.entries])

    def positions_of_text(self, fingerprint: bytes) -> list[int]:
        """Where a text stands, by its fingerprint; mostly nowhere, which is found out at once."""
        if fingerprint not in self._texts:
            return []
        return [position for position, entry in enumerate(self.entries) if entry.fingerprint == fingerprint]
