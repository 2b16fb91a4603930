"""Pairs that somebody brings: those of `prlm pairs`, edited or not, and other people's preference data.

A line holds `user_id`, `text` or `prompt`, `chosen` and `rejected`; the latter three are strings, or lists of chat
messages of which the last one counts. `query_id`, `kind`, `profile` and all else that a `PreferencePair` has may be
there too, and other fields are passed over.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from prlm_cli.core import jsonl
from prlm_cli.core.errors import DataError
from prlm_cli.core.records import Date, PreferencePair, ProfileDocument, Query
from prlm_cli.core.reporting import Reporter, Silent
from prlm_cli.core.settings import Config, RetrievalSettings
from prlm_cli.core.store import Store
from prlm_cli.core.workspace import Workspace
from prlm_cli.pipeline.pairs import normalised
from prlm_cli.pipeline.queries import stored_queries
from prlm_cli.pipeline.retrieve import retrieve

_NEEDED = ("user_id", "text", "chosen", "rejected")
_GIVEN = "given"


class GivenPair(msgspec.Struct, kw_only=True, frozen=True):
    """A pair as it is read; without a profile it gets one from the index."""

    user_id: str
    text: str
    chosen: str
    rejected: str
    query_id: str | None = None
    kind: str = _GIVEN
    profile: list[ProfileDocument] | None = None
    swapped_user_id: str | None = None
    swapped_profile: list[ProfileDocument] = []
    swapped_query_id: str | None = None
    target: str | None = None
    margin: float = 0.0
    date: Date | None = None


Pair = TypeVar("Pair", GivenPair, PreferencePair)


def given_pairs(
    workspace: Workspace, path: Path, config: Config, reporter: Reporter | None = None
) -> list[PreferencePair]:
    """The pairs of a file, with records from the workspace's index, if there is one, where they have none.

    Raises:
        DataError: As `read_pairs`.
    """
    with workspace.open_store() if workspace.index.exists() else contextlib.nullcontext() as store:
        return read_pairs(path, store, config.retrieval, seed=config.seed, reporter=reporter)


def read_pairs(
    path: Path,
    store: Store | None,
    settings: RetrievalSettings | None = None,
    *,
    seed: int = 0,
    reporter: Reporter | None = None,
) -> list[PreferencePair]:
    """The pairs of a file, without those whose two answers are the same.

    A pair without a profile gets the records of its user that fit its text: none that has that very text, and none that
    is not older than the pair's `date`, or than the query of its `query_id` in the index. Without these all dates
    count. Of a user whom the index does not know there are no records.

    Args:
        path: JSON lines; `-` is standard input.
        store: The index, where there is one.
        settings: How records are ranked.
        seed: Of the random retriever.
        reporter: Told how many pairs were left out, and how many are of unknown users.

    Raises:
        DataError: If a line is no pair, there is none, or none has a contrast.
    """
    reporter = reporter or Silent()
    given = [_given(where, fields) for where, fields in jsonl.read_lines(path)]
    name = jsonl.name_of(path)
    if not given:
        raise DataError(f"{name}: no pairs", hint=f"one a line, with {', '.join(_NEEDED)}")
    return _with_profiles(with_contrast(given, reporter, name), store, settings or RetrievalSettings(), seed, reporter)


def with_contrast(pairs: Sequence[Pair], reporter: Reporter, where: str = "") -> list[Pair]:
    """The pairs whose two answers differ.

    Args:
        pairs: As they were given.
        reporter: Told how many were left out.
        where: The file they come from, for the error.

    Raises:
        DataError: If there are pairs, and none has a contrast.
    """
    kept = [pair for pair in pairs if normalised(pair.chosen) != normalised(pair.rejected)]
    if not kept:
        what = f"{where}: " if where else ""
        raise DataError(
            f"{what}none of the {len(pairs)} pairs has a contrast: its answers are equal", hint="bring others"
        )
    if len(kept) < len(pairs):
        reporter.note(f"left out {len(pairs) - len(kept)} pairs whose answers are equal")
    return kept


def _given(where: str, fields: dict[str, Any]) -> GivenPair:
    fields = {"text": fields["prompt"], **fields} if "prompt" in fields else dict(fields)
    for name in ("text", "chosen", "rejected"):
        if isinstance(fields.get(name), list):
            fields[name] = _last_message(where, name, fields[name])
    pair = jsonl.check_date(where, jsonl.validate(where, fields, GivenPair))
    for name in ("chosen", "rejected"):
        if not getattr(pair, name).strip():
            raise DataError(f"{where}: field '{name}' is empty", hint="every pair needs two answers")
    return pair if pair.query_id is not None else replace(pair, query_id=_id_of(pair))


def _last_message(where: str, name: str, messages: Sequence[Any]) -> str:
    content = messages[-1].get("content") if messages and isinstance(messages[-1], dict) else None
    if not isinstance(content, str):
        raise DataError(
            f"{where}: field '{name}' does not end in a message", hint="a string, or a list of {role, content}"
        )
    return content


def _id_of(pair: GivenPair) -> str:
    return hashlib.blake2b(f"{pair.user_id}\x00{pair.text}".encode(), digest_size=8).hexdigest()


def _with_profiles(
    given: Sequence[GivenPair], store: Store | None, settings: RetrievalSettings, seed: int, reporter: Reporter
) -> list[PreferencePair]:
    bare = [n for n, pair in enumerate(given) if pair.profile is None]
    profiles: dict[int, list[ProfileDocument]] = {}
    if store:
        user_ids = sorted({given[n].user_id for n in bare})
        queries = {user_id: _queries_of(store, user_id) for user_id in user_ids if store.has_user(user_id)}
        asked = {n: _query(given[n], queries[given[n].user_id]) for n in bare if given[n].user_id in queries}
        found = retrieve(store, asked.values(), settings, seed=seed)
        profiles = {n: query.profile for n, query in zip(asked, found, strict=True)}
    if len(profiles) < len(bare):
        reporter.note(f"{len(bare) - len(profiles)} pairs have no records: their users are not in the index")
    return [_pair(pair, profiles.get(n, pair.profile or [])) for n, pair in enumerate(given)]


def _queries_of(store: Store, user_id: str) -> dict[str, Query]:
    """The user's queries in the index, by id."""
    splits = ("train", "dev", "test")
    return {query.query_id: query for split in splits for query in stored_queries(store, split, user_id=user_id)}


def _query(pair: GivenPair, known: Mapping[str, Query]) -> Query:
    query_id = pair.query_id or ""
    query = known.get(query_id) or Query(query_id=query_id, user_id=pair.user_id, text=pair.text)
    return replace(query, text=pair.text, **({} if pair.date is None else {"date": pair.date}))


def _pair(given: GivenPair, profile: list[ProfileDocument]) -> PreferencePair:
    fields = {name: getattr(given, name) for name in PreferencePair.__struct_fields__ if name != "profile"}
    return PreferencePair(profile=profile, **fields)
