"""The records that flow between the stages: one JSON object a line.

Each stage adds its fields and passes on all others: Query -> Retrieved -> Generation -> Score. Fields that a record
does not declare are kept in `meta`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, Literal, TypeVar

import msgspec

Date = str | int | float


class Document(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """One past text of a user. `text` is what was given or written at length, `title` the short text made of it."""

    user_id: str
    doc_id: str = ""
    text: str
    title: str | None = None
    date: Date | None = None
    meta: dict[str, Any] = {}


class ProfileDocument(msgspec.Struct, kw_only=True, frozen=True):
    """A retrieved document: `score` is the retriever's, `rank` counts from 1, `corpus` marks one that is shared."""

    doc_id: str
    text: str
    title: str | None = None
    date: Date | None = None
    score: float = 0.0
    rank: int = 0
    corpus: Literal["shared"] | msgspec.UnsetType = msgspec.UNSET


class Query(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """What is asked now. `target` is what the user really wrote.

    `source_doc_id` names the document that the query was made from; it never serves as profile for it. `doc_ids` are
    the documents that came with the query, where it has a history of its own (LaMP).
    """

    query_id: str
    user_id: str
    text: str
    target: str | None = None
    date: Date | None = None
    split: str | None = None
    source_doc_id: str | None = None
    doc_ids: list[str] | None = None
    meta: dict[str, Any] = {}


class Retrieved(Query, kw_only=True, frozen=True, omit_defaults=True):
    """A query with the ranked documents of its own user's profile.

    `profile_user_id` is set only where a control gave it another user's profile (`swapped_profile`), or a thought about
    another user's query. `card` says in a line how the author of the profile writes; it is None where none was counted,
    and empty where there was nothing to count.
    """

    profile: list[ProfileDocument]
    retriever: str
    profile_user_id: str | None = None
    card: str | None = None


class Usage(msgspec.Struct, kw_only=True, frozen=True):
    """What a generation took: tokens, records shown, and what the packer had to cut."""

    prompt_tokens: int
    completion_tokens: int
    records: int
    records_cut: int = 0
    query_cut: bool = False
    truncated: bool = False


class Generation(Retrieved, kw_only=True, frozen=True):
    """A retrieved record with what the policy wrote. `answer` is None where none could be read from the completion.

    `reward` and `author` are what `score` found, and None where that does not apply.
    """

    completion: str
    reasoning: str | None
    answer: str | None
    policy: str
    seed: int
    usage: Usage | None = None
    reward: float | None = None
    author: float | msgspec.UnsetType | None = msgspec.UNSET


class PreferencePair(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """Two answers to one query: `chosen` should be preferred to `rejected` by whoever knows the profile.

    `kind` is CHOSEN>REJECTED in kinds of answers, such as "own>swapped", or "given" for a pair that somebody brought
    without one. `swapped_user_id` and `swapped_profile` are set where `rejected` was written from another user's
    records, or is that user's target, of the query `swapped_query_id`. `target` is what the user really wrote, where it
    is known; `margin` is by how much, in logits, `chosen` should score more.
    """

    query_id: str
    user_id: str
    kind: str
    text: str
    profile: list[ProfileDocument]
    chosen: str
    rejected: str
    swapped_user_id: str | None = None
    swapped_profile: list[ProfileDocument] = []
    swapped_query_id: str | None = None
    target: str | None = None
    margin: float = 0.0


Record = TypeVar("Record", bound=msgspec.Struct)


def convert(kind: type[Record], fields: dict[str, Any]) -> Record:
    """A record of `kind` from decoded JSON; undeclared fields move into `meta`.

    Raises:
        msgspec.ValidationError: If a field is missing or of the wrong type.
    """
    known = set(kind.__struct_fields__)
    if "meta" in known and (extra := {name: value for name, value in fields.items() if name not in known}):
        declared = {name: value for name, value in fields.items() if name in known}
        meta = declared.get("meta") or {}
        fields = {**declared, "meta": {**meta, **extra} if isinstance(meta, dict) else meta}
    return msgspec.convert(fields, kind)


def with_doc_id(document: Document) -> Document:
    """The document, with a hash of its content as id where it has none."""
    if document.doc_id:
        return document
    content = msgspec.json.encode([document.title, document.text, document.date])
    return msgspec.structs.replace(document, doc_id=hashlib.blake2b(content, digest_size=8).hexdigest())


def shown(document: Document | ProfileDocument) -> str:
    """What a retriever, or a reader, reads of a document: its title, where it has one, and its text."""
    return f"{document.title}\n{document.text}" if document.title else document.text


def own_titles(records: Iterable[ProfileDocument]) -> list[str]:
    """The titles of the user's own records; those of the shared corpus, and blank ones, are left out."""
    own = (record.title for record in records if record.corpus != "shared")
    return [title for title in own if title and title.strip()]


def with_records(query: Retrieved, profile: Sequence[ProfileDocument]) -> Retrieved:
    """The query with other records; without any its card goes, too: nothing of the author is shown."""
    return msgspec.structs.replace(query, profile=list(profile), card=query.card if profile else None)


def widen(kind: type[Record], record: msgspec.Struct, **fields: Any) -> Record:
    """A record of the wider `kind` with all fields of `record`, and `fields` on top."""
    return kind(**{name: getattr(record, name) for name in record.__struct_fields__ if name not in fields}, **fields)
