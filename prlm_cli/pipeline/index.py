"""`prlm index`: documents and queries into the store.

Blocks are committed one by one, so that memory stays bounded and a killed run has lost nothing: the same command again
passes over what is stored and goes on.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from prlm_cli.core.errors import DataError, SettingsError
from prlm_cli.core.reporting import Reporter, Silent, Stage
from prlm_cli.core.settings import Engine
from prlm_cli.core.workspace import Workspace
from prlm_cli.pipeline.ingest import (
    BLOCK_RECORDS,
    Faults,
    Indexed,
    Job,
    add_all,
    check_language,
    none_usable,
    sound_records,
)
from prlm_cli.pipeline.inputs import Inputs, Reading, open_inputs
from prlm_cli.pipeline.rejects import Rejects
from prlm_cli.retrievers.shared import build, drop_index


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
    engine: Engine = "local",
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
        engine: "ray" does it on the cores of a Ray cluster, into shards.
        reporter: Told of progress.

    Raises:
        DataError: If something is no record, or there is none at all.
        MissingError: If Ray is asked for and there is none.
        SettingsError: If the index is in another number of shards or another language, or cannot be written by Ray.
        StorageError: If the store cannot be written.
    """
    reporter = reporter or Silent()
    count = 1 if shared else workspace.number_of_shards(shards)  # known before anything is read
    if engine == "ray" and count == 1:
        hint = "the shared corpus is one file" if shared else "give a new index some with --shards N"
        raise SettingsError("--engine ray writes to shards", hint=hint)
    with contextlib.ExitStack() as stack:
        reading = Reading(columns or {}, split, shared)
        inputs = open_inputs(paths, lambda: stack.enter_context(workspace.scratch()), reading, format=format)
        if not len(inputs) and not rebuild:
            raise DataError("nothing to index", hint="name some files, or - for standard input")
        job = Job(skip_faults=skip_faults, language=language, rebuild=rebuild, shared=shared, shards=count)
        if engine == "ray":
            from prlm_cli.pipeline.index_on_ray import index_on_ray

            return index_on_ray(workspace, inputs, job, reporter)
        return _index_here(workspace, inputs, job, reporter)


def _index_here(workspace: Workspace, inputs: Inputs, job: Job, reporter: Reporter) -> Indexed:
    expected = 0 if job.skip_faults else _check(inputs, reporter.stage("check"))
    with contextlib.ExitStack() as stack:
        stack.enter_context(workspace.write_lock(reporter=reporter))
        store = stack.enter_context(
            workspace.open_store(create=True, language=job.language, shared=job.shared, shards=job.shards)
        )
        if job.shared:
            drop_index(workspace.folder)  # before anything that it was made from changes
        if job.rebuild:
            reporter.note(f"made the terms of {store.rebuild(job.language)} documents anew")
        else:
            check_language(store, job.language)
        rejects = stack.enter_context(Rejects(workspace.errors)) if job.skip_faults else None
        records = (record for _, found in inputs.read(rejects) for record in found)
        documents, queries = add_all(store, records, reporter.stage("index"), expected)
        store.settle()
        if rejects and rejects.first and not any(documents + queries):
            raise none_usable(rejects.first)
        if job.shared:
            build(workspace.folder)
        return Indexed(documents, queries, rejects.count if rejects else 0, store.count())


def _check(inputs: Inputs, stage: Stage) -> int:
    """Reads everything once, so that a fault leaves the store as it was; returns how many records there are."""
    total, faults = 0, Faults()
    for total, _ in enumerate(sound_records(inputs, faults), start=1):
        if total % BLOCK_RECORDS == 0:
            stage(total)
    if faults.count:
        raise faults.summary()
    return total
