"""What indexing is made of, on one core or many: sound records, faults, and blocks that are committed one by one."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from prlm_cli.core.errors import DataError, SettingsError
from prlm_cli.core.records import Document, Query
from prlm_cli.core.reporting import Stage
from prlm_cli.core.store import Store
from prlm_cli.core.writer import Counts
from prlm_cli.pipeline.inputs import Inputs

BLOCK_RECORDS = 2500
_BLOCK_CHARACTERS = 4_000_000
_SHOWN_FAULTS = 3


class Job(NamedTuple):
    """What is asked of an indexing run, beside its inputs; `index` says what each means."""

    skip_faults: bool
    language: str | None
    rebuild: bool
    shared: bool
    shards: int


class Indexed(NamedTuple):
    """What an `index` did, and what the index holds now."""

    documents: Counts
    queries: Counts
    rejected: int
    total: dict[str, int]


def check_language(store: Store, language: str | None) -> None:
    """Refuses another language than the index has.

    Raises:
        SettingsError: If it has another.
    """
    if language and store.language != language:
        hint = f"--rebuild --language {language} makes its terms anew"
        raise SettingsError(f"the index is in {store.language}, not {language}", hint=hint)


def none_usable(first: DataError) -> DataError:
    """The error of an input that has nothing but faults, of which this is the first."""
    return DataError(f"no line could be used: {first.message}", hint=first.hint)


def sound_records(inputs: Inputs, faults: Faults) -> Iterator[Document | Query]:
    """The records of all inputs, one by one; faults are counted.

    Raises:
        DataError: If an input cannot be read, or there is nothing in it.
    """
    for name, records in inputs.read(faults):
        before, count = faults.count, 0
        for count, record in enumerate(records, start=1):  # noqa: B007
            yield record
        if count + faults.count == before:
            raise DataError(f"{name}: no records", hint="one JSON object a line, with user_id and text")


class Faults:
    """Counts faults and keeps the first few: an `OnFault`."""

    def __init__(self) -> None:
        self.count = 0
        self.first: list[DataError] = []

    def __call__(self, error: DataError, rejected: object) -> None:
        """Takes down a fault."""
        self.extend(1, [error])

    def extend(self, count: int, first: Iterable[DataError]) -> None:
        """Takes down so many faults, of which these are the first."""
        self.count += count
        self.first = [*self.first, *first][:_SHOWN_FAULTS]

    def summary(self) -> DataError:
        """One error for all of them."""
        first, *others = self.first
        shown = "".join(f"; also {fault.message}" for fault in others)
        more = f" ({self.count} bad lines in all{shown})" if others else ""
        return DataError(f"{first.message}{more}", hint=f"{first.hint}; nothing was stored")


def add_all(
    store: Store, records: Iterable[Document | Query], stage: Stage, expected: int = 0
) -> tuple[Counts, Counts]:
    """Adds records block by block, each committed before the next is read.

    Args:
        store: Where to.
        records: Sound ones.
        stage: Told how many are done.
        expected: How many there are; 0 if nobody knows.

    Returns:
        What became of the documents, and of the queries.
    """
    documents, queries, done, started = Counts(), Counts(), 0, time.monotonic()
    for block in _blocks(records):
        added = store.add(block)
        documents, queries = documents + added[0], queries + added[1]
        done += len(block)
        stage(done, expected, docs_per_s=done / max(time.monotonic() - started, 1e-9))
    return documents, queries


def _blocks(records: Iterable[Document | Query]) -> Iterator[list[Document | Query]]:
    block: list[Document | Query] = []
    size = 0
    for record in records:
        block.append(record)
        size += len(record.text)
        if len(block) == BLOCK_RECORDS or size > _BLOCK_CHARACTERS:
            yield block
            block, size = [], 0
    if block:
        yield block
