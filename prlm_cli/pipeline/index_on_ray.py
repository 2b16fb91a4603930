"""`prlm index --engine ray`: into shards, on many cores or machines, with what one process would store.

Ray Data reads the inputs side by side and lays each record down for its shard (`scatter`). Only when all are sound,
each shard is written by one task, from its records in their order. Ray Data starts a task again when its worker is
lost, which could let two write to one file; so the writers are plain tasks, which are never started again.

All machines must see the workspace and the inputs at the same paths.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from prlm_cli.core.errors import DataError
from prlm_cli.core.partition import Shard
from prlm_cli.core.reporting import Reporter, Silent, Stage
from prlm_cli.core.store import Store
from prlm_cli.core.workspace import Workspace
from prlm_cli.core.writer import Counts
from prlm_cli.engines.cluster import cluster, report, result_of
from prlm_cli.pipeline.ingest import Faults, Indexed, Job, add_all, check_language, none_usable
from prlm_cli.pipeline.inputs import Inputs
from prlm_cli.pipeline.scatter import Scattered, gather, gather_rejects, scatter, shuffle_folder


class Stored(msgspec.Struct, frozen=True, tag=True):
    """What became of a shard's documents and queries, and how many documents were made anew before."""

    documents: Counts = Counts()
    queries: Counts = Counts()
    rebuilt: int = 0

    def __add__(self, other: Stored) -> Stored:
        return Stored(self.documents + other.documents, self.queries + other.queries, self.rebuilt + other.rebuilt)


def index_on_ray(workspace: Workspace, inputs: Inputs, job: Job, reporter: Reporter) -> Indexed:
    """Adds or updates the records of inputs, in shards, on the cores of a Ray cluster.

    Raises:
        DataError: If something is no record, or there is none at all.
        MissingError: If there is no Ray.
        StorageError: If a shard cannot be written.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(workspace.write_lock(reporter=reporter))
        folder = stack.enter_context(shuffle_folder(workspace)).absolute()
        ray = stack.enter_context(cluster())
        read = partial(scatter, folder=folder, shards=job.shards, skip_faults=job.skip_faults)
        scattered = _scatter_all(ray, inputs.apart(), read, reporter.stage("check"))
        faults = _faults_of(scattered)
        if faults.count and not job.skip_faults:
            raise faults.summary()
        folders = [Path(part.folder) for part in scattered]
        gather_rejects(folders, workspace.errors)
        anew = _prepare(workspace, job)
        write = partial(store_shard, workspace.shards.absolute(), folders, language=anew)
        shards = [Shard(number, job.shards) for number in range(job.shards)]
        stored = _store_all(ray, write, shards, reporter.stage("index"))
        if job.rebuild:
            reporter.note(f"made the terms of {stored.rebuilt} documents anew")
        if faults.count and not any(stored.documents + stored.queries):
            raise none_usable(faults.first[0])
        with workspace.open_store() as store:
            return Indexed(stored.documents, stored.queries, faults.count, store.count())


def store_shard(folder: Path, scattered: Sequence[Path], shard: Shard, *, language: str | None = None) -> Stored:
    """Adds to a shard what was scattered for it.

    Args:
        folder: The shards'.
        scattered: The folder of each input, in their order.
        shard: Which one to write.
        language: First make everything that is derived from its texts anew, in this language.
    """
    with Store(shard.file_in(folder), create=True, shard=shard) as store:
        rebuilt = store.rebuild(language) if language else 0
        documents, queries = add_all(store, gather(scattered, shard), Silent().stage("index"))
        store.settle()
    return Stored(documents, queries, rebuilt)


def _prepare(workspace: Workspace, job: Job) -> str | None:
    """Makes the shards where there are none; returns the language to make their terms anew in.

    They are closed again: nobody else may have one open when its writer does, who may be on another machine.
    """
    with workspace.open_store(create=True, language=job.language, shards=job.shards) as store:
        if job.rebuild:
            return job.language or store.language
        check_language(store, job.language)
        return None


def _scatter_all(
    ray: Any, units: Sequence[Inputs], read: Callable[[Inputs], Scattered], stage: Stage
) -> list[Scattered]:
    """What became of each input; they are read side by side, and again where a worker was lost."""
    if not units:
        return []
    everything = ray.put(units)

    def read_one(row: dict[str, Any]) -> dict[str, Any]:
        return {"n": row["n"], "result": report(partial(read, ray.get(everything)[row["n"]]))}

    rows = ray.data.from_items([{"n": n} for n in range(len(units))], override_num_blocks=len(units))
    results: dict[int, bytes] = {}
    for row in rows.map(read_one, num_cpus=1).iter_rows():
        results[row["n"]] = row["result"]
        stage(len(results), len(units))
    return [result_of(results[n], Scattered) for n in range(len(units))]


def _store_all(ray: Any, write: Callable[[Shard], Stored], shards: Sequence[Shard], stage: Stage) -> Stored:
    """What became of all shards; each is written by one process."""
    writer = ray.remote(num_cpus=1, max_retries=0)(report)
    waiting = [writer.remote(partial(write, shard)) for shard in shards]
    total = Stored()
    try:
        while waiting:
            done, waiting = ray.wait(waiting)
            total += result_of(ray.get(done[0]), Stored)
            stage(len(shards) - len(waiting), len(shards))
    finally:  # the write lock is not given up before they have ended
        for task in waiting:
            ray.cancel(task, force=True)
        if waiting:
            ray.wait(waiting, num_returns=len(waiting))
    return total


def _faults_of(scattered: Iterable[Scattered]) -> Faults:
    faults = Faults()
    for part in scattered:
        faults.extend(part.faults, [DataError(message, hint=hint) for message, hint in part.first])
    return faults
