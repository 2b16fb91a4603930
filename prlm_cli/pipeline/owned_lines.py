"""Whose the lines of record files are, and such files without the lines of one owner."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from prlm_cli.core import terms
from prlm_cli.core.files import replace_file

SHARED = "shared"


class _Shown(msgspec.Struct):
    """What a line says of a record in a profile."""

    doc_id: str | None = None
    corpus: str | None = None


class _Line(msgspec.Struct):
    """What a line says of its owners: whose query it is, and whose records stand in it."""

    user_id: str | None = None
    swapped_user_id: str | None = None
    profile_user_id: str | None = None
    query_id: str | None = None
    doc_id: str | None = None
    source_doc_id: str | None = None
    swapped_query_id: str | None = None
    text: str | None = None
    profile: list[_Shown] = []
    card: str | bool | None = None
    swapped_profile: list[_Shown] = []


_DECODER = msgspec.json.Decoder(_Line)


@dataclass(frozen=True)
class Owner:
    """A user, or one document of a user with the queries made from it.

    Args:
        user_id: The user.
        doc_id: The document; None for all that is the user's.
        query_ids: The queries made from the document.
        texts: Fingerprints of the document's text: a query that has it was made from it, too.
    """

    user_id: str
    doc_id: str | None = None
    query_ids: frozenset[str] = frozenset()
    texts: frozenset[bytes] = frozenset()

    def has(self, user_id: str, *, doc_id: str | None = None, query_id: str | None = None) -> bool:
        """Whether a stored document or query is the owner's."""
        is_of_document = self.doc_id in (None, doc_id) or query_id in self.query_ids
        return user_id == self.user_id and is_of_document

    def owns(self, line: bytes) -> bool | None:
        """Whether a line of a record file is the owner's; None if it does not say whose it is."""
        try:
            found = _DECODER.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        owners = {found.user_id, found.swapped_user_id, found.profile_user_id} - {None}
        if not owners:
            return None
        if self.user_id not in owners or self.doc_id is None:
            return self.user_id in owners
        is_author = (found.profile_user_id or found.user_id) == self.user_id
        own_profile = found.profile if is_author else []
        swapped = found.swapped_profile if found.swapped_user_id == self.user_id else []
        is_counted = is_author and bool(found.card)  # a card is of all documents
        return is_counted or self._is_of_document(found) or self._shows_document([*own_profile, *swapped])

    def _is_of_document(self, line: _Line) -> bool:
        if line.swapped_user_id == self.user_id and line.swapped_query_id in self.query_ids:
            return True
        if line.user_id != self.user_id:
            return False
        by_text = line.text is not None and terms.fingerprint_of(line.text) in self.texts
        return self.doc_id in (line.doc_id, line.source_doc_id) or line.query_id in self.query_ids or by_text

    def _shows_document(self, profile: Sequence[_Shown]) -> bool:
        return any(shown.doc_id == self.doc_id and shown.corpus != SHARED for shown in profile)


def lines(path: Path) -> Iterator[bytes]:
    """The lines of a file."""
    with path.open("rb") as stream:
        yield from stream


def rewrite(path: Path, goes: Callable[[bytes], bool]) -> None:
    """Takes lines out of a file, in one atomic step."""
    replace_file(path, (line for line in lines(path) if not goes(line)))
