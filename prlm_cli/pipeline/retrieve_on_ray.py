"""`prlm retrieve --engine ray`: on many cores or machines, with the results of one process.

A user's queries always go to the same worker, so that each shard is read, and kept in memory, by one of them.

All machines must see the workspace at the same path.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec

from prlm_cli.core.errors import PrlmError
from prlm_cli.core.partition import shard_of
from prlm_cli.core.prompts import Task
from prlm_cli.core.records import Query, Retrieved
from prlm_cli.core.settings import RetrievalSettings
from prlm_cli.core.workspace import Workspace
from prlm_cli.engines.cluster import Failure, cluster, failure_of
from prlm_cli.pipeline.search import LeftOut, Search
from prlm_cli.pipeline.windows import answers, windows

_RECORDS_IN_WINDOW = 20_000  # so few queries that their answers hold no more: they pass through memory as a whole


def answers_on_ray(search: Search, queries: Iterable[Query], *, seed: int, window: int) -> Iterator[Retrieved]:
    """Each query with its records, in their order, from the cores of a Ray cluster.

    Args:
        search: Says what of, and how; the workers open the index for themselves.
        queries: The queries; two windows of them are held in memory, with their answers.
        seed: Of the random retriever.
        window: How many queries to read ahead; 1 answers each before the next is read.

    Raises:
        DataError: If a query's date is not a date.
        MissingError: If there is no Ray.
    """
    settings = search.settings
    batches = windows(queries, min(window, max(1, _RECORDS_IN_WINDOW // max(1, settings.k))))
    if first := next(batches, None):
        with cluster() as ray, _workers(ray, search, seed) as workers:
            asked = map(workers.ask, chain([first], batches))
            for answered in _ahead(asked, 0 if window == 1 else 1):
                yield from answered
            search.take_over(workers.finish())


class Answered(msgspec.Struct, frozen=True):
    """The answers to some queries in their order, and where the last are missing, why."""

    records: list[Retrieved]
    failure: Failure | None = None


class Answerer:
    """What a worker runs: it answers the queries of its users.

    Args:
        folder: The workspace's.
        settings: How the documents are ranked.
        carded: The task whose answers cards are counted over; None counts none.
        seed: Of the random retriever.
    """

    def __init__(self, folder: Path, settings: RetrievalSettings, carded: Task | None, seed: int) -> None:
        self._folder, self._settings, self._carded, self._seed = folder, settings, carded, seed
        self._search: Search | None = None

    def answer(self, queries: bytes) -> bytes:
        """The `Answered` of a list of queries, which see one state of each shard; both are JSON."""
        records: list[Retrieved] = []
        try:
            if self._search is None:
                store = Workspace(self._folder).open_store()
                self._search = Search(store, self._settings, seed=self._seed, carded=self._carded)
            with self._search.store.snapshot():
                for record in answers(self._search, msgspec.json.decode(queries, type=list[Query])):
                    records.append(record)  # one by one: those before an error count
        except PrlmError as error:
            return msgspec.json.encode(Answered(records, failure_of(error)))
        return msgspec.json.encode(Answered(records))

    def finish(self) -> LeftOut:
        """Closes the index, and says of how many queries something was left out."""
        if self._search is None:
            return LeftOut(0, 0)
        with self._search.store, self._search:
            return self._search.left_out


class _Workers:
    """The workers of a cluster, each with users of its own."""

    def __init__(self, ray: Any, search: Search, seed: int) -> None:
        self._ray = ray
        folder = search.store.path.parent.absolute()
        cores = int(ray.cluster_resources()["CPU"])
        shards = Workspace(folder).number_of_shards()
        self._parts = shards if shards > 1 else cores
        worker = ray.remote(num_cpus=1)(Answerer)
        self.handles = [
            worker.remote(folder, search.settings, search.carded, seed) for _ in range(min(cores, self._parts))
        ]

    def ask(self, batch: Sequence[Query]) -> Iterator[Retrieved]:
        """Hands a window out; the answers, in the order of the queries, are awaited when the first is taken."""
        numbers = [shard_of(query.user_id, self._parts) % len(self.handles) for query in batch]
        parts: dict[int, list[Query]] = {}
        for number, query in zip(numbers, batch, strict=True):
            parts.setdefault(number, []).append(query)
        asked = {n: self.handles[n].answer.remote(msgspec.json.encode(part)) for n, part in parts.items()}
        return self._answers(numbers, asked)

    def finish(self) -> LeftOut:
        """Of how many queries something was left out; after it there are no more answers."""
        counts = self._ray.get([handle.finish.remote() for handle in self.handles])
        return LeftOut(*map(sum, zip(*counts, strict=True)))

    def _answers(self, numbers: Sequence[int], asked: Mapping[int, Any]) -> Iterator[Retrieved]:
        given = self._ray.get(list(asked.values()))
        found = {n: msgspec.json.decode(part, type=Answered) for n, part in zip(asked, given, strict=True)}
        records = {n: iter(part.records) for n, part in found.items()}
        for number in numbers:
            record = next(records[number], None)
            if record is None:
                failure = found[number].failure
                assert failure  # a worker answers all it is asked, or says why not
                raise failure.error
            yield record


@contextlib.contextmanager
def _workers(ray: Any, search: Search, seed: int) -> Iterator[_Workers]:
    workers = _Workers(ray, search, seed)
    try:
        yield workers
    finally:
        for handle in workers.handles:
            ray.kill(handle)


def _ahead(asked: Iterator[Iterator[Retrieved]], count: int) -> Iterator[Iterator[Retrieved]]:
    """The same, taken so many before they are needed; an error comes in its turn."""
    waiting: deque[Iterator[Retrieved]] = deque()
    try:
        for answered in asked:
            waiting.append(answered)
            if len(waiting) > count:
                yield waiting.popleft()
    except PrlmError:
        yield from waiting
        raise
    yield from waiting
