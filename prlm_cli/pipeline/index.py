"""`prlm index`: documents and queries into the store.

Blocks are committed one by one, so that memory stays bounded and a killed run has lost nothing: the same command again
passes over what is stored and goes on.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from prlm_cli.core.errors import DataError, SettingsError
from prlm_cli.core.records import Document, Query
from prlm_cli.core.reporting import Reporter, Silent, Stage
from prlm_cli.core.store import Store
from prlm_cli.core.workspace import Workspace
from prlm_cli.core.writer import Counts
from prlm_cli.pipeline.inputs import Inputs, Reading, open_inputs
from prlm_cli.pipeline.rejects import Rejects
from prlm_cli.retrievers.shared import build, drop_index

_BLOCK_RECORDS = 2500
_BLOCK_CHARACTERS = 4_000_000
_SHOWN_FAULTS = 3


class Indexed(NamedTuple):
    """What an `index` did, and what the index holds now."""

    documents: Counts
    queries: Counts
    rejected: int
    total: dict[str, int]


def index(
    workspace: Workspace,
    paths: Sequence[Path] = (),
    *,
    split: str | None = None,
    format: str = "auto",
    columns: Mapping[str, str] | None = None,
    skip_faults: bool = False,
    language: str | None = None,
    rebuild: bool = False,
    shared: bool = False,
    shards: int | None = None,
    reporter: Reporter | None = None,
) -> Indexed:
    """Adds or updates the records of files; the same input twice changes nothing.

    What has a `query_id` is a query, any other a document. Everything is checked before anything is stored, unless
    faults are skipped.

    Args:
        workspace: Where the index lies; made where it is missing.
        paths: Files, folders and patterns; `-` is standard input.
        split: The split of queries that name none.
        format: A name in `FORMATS`; "auto" goes by name and content.
        columns: Field -> column, where an input has other names.
        skip_faults: Store what is sound, and write the rest, with reasons, to `errors.jsonl` in the workspace.
        language: Of the texts: for a new index, or with `rebuild`.
        rebuild: First make everything that is derived from stored texts anew.
        shared: Into the corpus that all users share, which is one file.
        shards: In how many shards a new index is made; what is there must have as many.
        reporter: Told of progress.

    Raises:
        DataError: If something is no record, or there is none at all.
        SettingsError: If the index is in another number of shards or another language.
        StorageError: If the store cannot be written.
    """
    reporter = reporter or Silent()
    if not shared:
        workspace.number_of_shards(shards)  # known before anything is read
    reading = Reading(columns or {}, split, shared)
    with contextlib.ExitStack() as stack:
        inputs = open_inputs(paths, lambda: stack.enter_context(workspace.scratch()), reading, format=format)
        if not len(inputs) and not rebuild:
            raise DataError("nothing to index", hint="name some files, or - for standard input")
        expected = 0 if skip_faults else _check(inputs, reporter.stage("check"))
        stack.enter_context(workspace.write_lock(reporter=reporter))
        store = stack.enter_context(workspace.open_store(create=True, language=language, shared=shared, shards=shards))
        if shared:
            drop_index(workspace.folder)  # before anything that it was made from changes
        if rebuild:
            reporter.note(f"made the terms of {store.rebuild(language)} documents anew")
        else:
            check_language(store, language)
        rejects = stack.enter_context(Rejects(workspace.errors)) if skip_faults else None
        records = (record for _, found in inputs.read(rejects) for record in found)
        documents, queries = add_all(store, records, reporter.stage("index"), expected)
        store.settle()
        if rejects and rejects.first and not any(documents + queries):
            raise none_usable(rejects.first)
        if shared:
            build(workspace.folder)
        return Indexed(documents, queries, rejects.count if rejects else 0, store.count())


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


def _check(inputs: Inputs, stage: Stage) -> int:
    """Reads everything once, so that a fault leaves the store as it was; returns how many records there are."""
    total, faults = 0, Faults()
    for total, _ in enumerate(sound_records(inputs, faults), start=1):
        if total % _BLOCK_RECORDS == 0:
            stage(total)
    if faults.count:
        raise faults.summary()
    return total


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
        if len(block) == _BLOCK_RECORDS or size > _BLOCK_CHARACTERS:
            yield block
            block, size = [], 0
    if block:
        yield block
