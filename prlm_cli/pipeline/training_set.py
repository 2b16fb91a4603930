"""What training works on: the training queries with their records."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import msgspec

from prlm_cli.core.errors import DataError
from prlm_cli.core.records import PreferencePair, Query, Retrieved
from prlm_cli.core.settings import Config
from prlm_cli.core.store import Store
from prlm_cli.pipeline.queries import LEAST_TITLED, stored_queries
from prlm_cli.pipeline.retrieve import retrieve

QUERIES_TAKEN = "queries_taken"  # how far in the order of the training queries a run came, with all that it began with


def training_queries(store: Store, config: Config, queries: Iterable[Query] | None = None) -> list[Retrieved]:
    """The training queries that have a target, each with its records.

    Args:
        store: The index.
        config: Retrieval settings and seed.
        queries: Instead of the index's training split.

    Raises:
        DataError: If there is none.
    """
    asked = stored_queries(store, "train") if queries is None else queries
    chosen = (query for query in asked if query.target)
    found = list(retrieve(store, chosen, config.retrieval, prompt=config.prompt, seed=config.seed))
    if not found:
        raise DataError(
            "no training queries",
            hint=f"index {LEAST_TITLED} titled documents of a user, or queries with a target and --split train",
        )
    return found


def fingerprint(records: Iterable[msgspec.Struct]) -> str:
    """Identifies a training set: its queries, targets and records, or its pairs."""
    return hashlib.blake2b(msgspec.json.encode(list(records)), digest_size=8).hexdigest()


def user_hashes(records: Iterable[Retrieved | PreferencePair]) -> list[str]:
    """Whose data a run is trained on, as hashes of the ids: kept with the run, for when a user is to be forgotten."""
    found = ((record.user_id, getattr(record, "swapped_user_id", None)) for record in records)
    return sorted({user_hash(user_id) for pair in found for user_id in pair if user_id})


def user_hash(user_id: str) -> str:
    """What a run keeps of the id of a user that it is trained on."""
    return hashlib.blake2b(user_id.encode(), digest_size=8).hexdigest()
