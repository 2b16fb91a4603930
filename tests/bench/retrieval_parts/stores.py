"""The corpora of a benchmark of retrieval, their files and their indexes; each is made when it is first asked for."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from prlm_cli.core.records import Document, Query
from prlm_cli.core.settings import RetrievalSettings
from prlm_cli.core.workspace import Workspace
from prlm_cli.pipeline.retrieve import retrieve
from tests.bench.corpora import Corpus, Texts, power_law, read_texts
from tests.bench.figures import progress, timed
from tests.bench.processes import Usage, prlm, run

SIZES = ("10k", "100k", "1m")
"""The names of the three sizes; how many documents they are at a scale, the figures `documents_SIZE` say."""
K = 5
SETTINGS = RetrievalSettings(k=K)
PROBE_SIZE = 20
FORGOTTEN_SIZE = 3000
_PROBES = 100
_MEAN, _LEAST = 20, 5  # documents a user


class Scale(NamedTuple):
    """How large everything is.

    `documents`: of each of `SIZES`. `many`: documents and users of the corpus of long histories. `asked`: queries of a
    batch. `pairs`: of user and query, held against bm25s. `histories`: documents of the users who ask again and again.
    """

    documents: tuple[int, int, int]
    many: tuple[int, int]
    asked: int
    pairs: int
    histories: tuple[int, ...]
    kills: int
    killed_documents: int
    rounds: int


SCALES = {
    "full": Scale(
        documents=(10_000, 100_000, 1_000_000),
        many=(80_000, 1_000),
        asked=500,
        pairs=10_000,
        histories=(1, 10, 100, 1_000, 10_000, 100_000),
        kills=200,
        killed_documents=20_000,
        rounds=7,
    ),
    "small": Scale(
        documents=(1_000, 10_000, 20_000),
        many=(8_000, 100),
        asked=100,
        pairs=1_000,
        histories=(1, 10, 100, 1_000),
        kills=10,
        killed_documents=4_000,
        rounds=3,
    ),
}


class Indexed:
    """A corpus with its file and its index."""

    def __init__(self, corpus: Corpus, folder: Path) -> None:
        self.corpus = corpus
        self._folder = folder
        self._kept = folder / "workspace"

    @cached_property
    def file(self) -> Path:
        """The documents as JSONL."""
        progress(f"writing {len(self.corpus)} documents")
        self._folder.mkdir(parents=True)
        path = self._folder / "documents.jsonl"
        self.corpus.write(path)
        return path

    @property
    def workspace(self) -> Workspace:
        """The workspace that holds the index."""
        if not self._kept.exists():
            self.ingest()
        return Workspace(self._kept)

    def ingest(self) -> Usage:
        """Indexes the file in a fresh process, into a new workspace. The first one is kept, all others are removed."""
        data = self.file
        folder = Path(tempfile.mkdtemp(dir=self._folder)) if self._kept.exists() else self._kept
        usage = run(prlm("index", data, "-w", folder, "-q"))
        if folder != self._kept:
            shutil.rmtree(folder)
        return usage

    def probes(self) -> list[int]:
        """Users with a history of one and the same length in the corpora of all three sizes."""
        return [user for user, size in enumerate(self.corpus.sizes) if size == PROBE_SIZE][:_PROBES]

    def retrieval(self, queries: Sequence[Query]) -> Callable[[], float]:
        """A measure of the seconds that a batch of queries takes on a store that was just opened."""

        def measure() -> float:
            with self.workspace.open_store() as store:
                return timed(lambda: list(retrieve(store, queries, SETTINGS, seed=0)))()

        return measure


class Bench:
    """What the parts of the benchmark share.

    Args:
        scale: How large everything is.
        data: A folder of real documents and queries.
        folder: Where files and indexes are made.
    """

    def __init__(self, scale: Scale, data: Path, folder: Path) -> None:
        self.scale = scale
        self.data = data
        self.folder = folder

    @cached_property
    def by_size(self) -> dict[str, Indexed]:
        """The corpora of the three sizes: histories of 20 documents in the mean."""
        return {
            size: self.indexed(size, _sizes(documents, with_forgotten=size == SIZES[1]))
            for size, documents in zip(SIZES, self.scale.documents, strict=True)
        }

    @cached_property
    def many(self) -> Indexed:
        """The corpus of long histories."""
        return self.indexed("many", _shuffled(power_law(*self.scale.many, low=_LEAST)))

    def askers(self, indexed: Indexed) -> list[int]:
        """The users of a batch. Those with the shortest histories do not ask: so the mean is 23, and 90 in `many`."""
        return indexed.corpus.askers(self.scale.asked, at_least=_LEAST + 1)

    def indexed(self, name: str, sizes: Sequence[int]) -> Indexed:
        """A corpus of histories of the given sizes."""
        return Indexed(Corpus(self._texts, sizes), self.folder / name)

    @cached_property
    def _texts(self) -> Texts:
        return read_texts(self.data / "profiles.jsonl")


def text_of(document: Document) -> str:
    """What is searched of a document, by us and by the alternatives."""
    return f"{document.title or ''}\n{document.text}"


def _sizes(documents: int, *, with_forgotten: bool) -> list[int]:
    """Histories that follow a power law, with those among them that some figures need."""
    planted = [PROBE_SIZE] * min(_PROBES, documents // (4 * PROBE_SIZE))
    if with_forgotten and documents >= 3 * FORGOTTEN_SIZE:
        planted.append(FORGOTTEN_SIZE)
    users = documents // _MEAN
    return _shuffled([*planted, *power_law(documents - sum(planted), users - len(planted), low=_LEAST)])


def _shuffled(sizes: list[int]) -> list[int]:
    random.Random("sizes").shuffle(sizes)
    return sizes
