"""Where a command's records come from: a stream, one text, or the index."""

from __future__ import annotations

import contextlib
import hashlib
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from prlm_cli.core import jsonl
from prlm_cli.core.errors import DataError
from prlm_cli.core.records import Query, Retrieved
from prlm_cli.core.settings import Config
from prlm_cli.core.store import Store
from prlm_cli.core.workspace import Workspace
from prlm_cli.pipeline.queries import open_queries, stored_queries
from prlm_cli.pipeline.retrieve import retrieve, with_card


def queries_from(
    store: Store, *, path: Path | None, split: str, user_id: str | None, text: str | None
) -> Iterator[Query]:
    """The queries that the flags of a command name.

    Args:
        store: The index.
        path: A JSONL file of queries, or `-`; None for what the index holds.
        split: Which stored queries, without a path.
        user_id: Only this user's.
        text: One new query of that user; `-` reads it from standard input.

    Raises:
        DataError: If the user is unknown, the flags do not go together, or the index holds no such query.
    """
    if text is not None:
        yield one_query(store, user_id, text)
    elif path is not None:
        for query in jsonl.read(path, Query):
            if user_id is None or query.user_id == user_id:
                yield query
    else:
        hint = "name a file of queries, or another --split"
        yield from _at_least_one(
            stored_queries(store, split, user_id=user_id), f"no {split} queries in the index", hint
        )


def _at_least_one(queries: Iterator[Query], otherwise: str, hint: str) -> Iterator[Query]:
    first = next(queries, None)
    if first is None:
        raise DataError(otherwise, hint=hint)
    return chain([first], queries)


def one_query(store: Store, user_id: str | None, text: str) -> Query:
    """A query of one user, made from a text.

    Raises:
        DataError: If there is no user, an unknown one, or no text.
    """
    if user_id is None:
        raise DataError("--text needs --user", hint="say whose query it is")
    if not store.has_user(user_id):
        raise DataError(f"no user '{user_id}' in the index", hint="index some of the user's documents first")
    body = (sys.stdin.read() if text == "-" else text).strip()
    if not body:
        raise DataError("the query has no text", hint="give --text some words, or - for standard input")
    query_id = hashlib.blake2b(f"{user_id}\x00{body}".encode(), digest_size=8).hexdigest()
    return Query(query_id=query_id, user_id=user_id, text=body)


def retrieved_from(
    workspace: Workspace, config: Config, *, path: Path | None, split: str, user_id: str | None, text: str | None
) -> Iterator[Retrieved]:
    """Retrieved records as the flags of `generate` name them: read, or retrieved for queries.

    A user without a text stands for that user's open queries. The first record is fetched at once, so that a wrong
    argument is known before a model loads.

    Raises:
        DataError: If a line is no query, the user is unknown, or there is no index to retrieve from.
    """
    if path is not None and text is None:
        records = _read_or_retrieve(workspace, config, path, user_id)
    else:
        records = _retrieve_from_index(workspace, config, split, user_id, text)
    first = next(records, None)
    return records if first is None else chain([first], records)


def _retrieve_from_index(
    workspace: Workspace, config: Config, split: str, user_id: str | None, text: str | None
) -> Iterator[Retrieved]:
    with workspace.open_store() as store:
        if user_id is not None and text is None:
            none_open = f"user '{user_id}' has no queries in the index"
            queries = _at_least_one(open_queries(store, user_id), none_open, "ask one with --text")
        else:
            queries = queries_from(store, path=None, split=split, user_id=user_id, text=text)
        yield from retrieve(store, queries, config.retrieval, prompt=config.prompt, seed=config.seed)


def _read_or_retrieve(workspace: Workspace, config: Config, path: Path, user_id: str | None) -> Iterator[Retrieved]:
    with contextlib.ExitStack() as stack:
        store = None
        for where, fields in jsonl.read_lines(path):
            if "profile" in fields:
                record = jsonl.validate(where, fields, Retrieved)
                if config.prompt.card and record.card is None:
                    store = store or stack.enter_context(workspace.open_store())
                    record = with_card(store, record, config.retrieval, config.prompt)
            else:
                store = store or stack.enter_context(workspace.open_store())
                query = jsonl.validate(where, fields, Query)
                (record,) = retrieve(store, [query], config.retrieval, prompt=config.prompt, seed=config.seed)
            if user_id is None or record.user_id == user_id:
                yield record
