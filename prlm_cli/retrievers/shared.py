"""The shared corpus: documents that belong to no user, retrieved by bm25s from one index for everybody.

    shared.sqlite   the documents, in a store of their own, as those of the user ""
    shared.bm25s/   bm25s' index of them, memory-mapped; it is made anew after a change

Every query sees statistics over all of the corpus; of dated documents it gets only strictly older ones.
"""

from __future__ import annotations

import shutil
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prlm_cli.core.dates import parse_period
from prlm_cli.core.errors import DataError
from prlm_cli.core.records import Document, Query
from prlm_cli.core.store import Store
from prlm_cli.retrievers.bm25 import K1, B
from prlm_cli.retrievers.hit import Hit

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHARED_USER = ""
"""Whose the shared documents are in their store; no user can have this id."""

_UNDATED = -(2**62)  # older than every query


class SharedCorpus:
    """The shared corpus of a workspace, open for queries.

    Args:
        folder: The workspace's.

    Raises:
        DataError: If there is none.
        StorageError: If it cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        if not (folder / "shared.sqlite").exists():
            raise DataError(f"no shared corpus in {folder}", hint="run `prlm index --corpus shared DATA` first")
        self._store = Store(folder / "shared.sqlite")
        self._folder = folder / "shared.bm25s"
        if not self._folder.exists():
            build(folder)

    def search(self, query: Query, k: int) -> list[Hit]:
        """The best k documents that share a word with the query, best first."""
        import numpy as np

        terms = np.frombuffer(self._store.tokenizer.terms(query.text), dtype="<u8")
        places = np.searchsorted(self._terms, terms)
        known = places[self._terms[np.minimum(places, len(self._terms) - 1)] == terms]
        if not len(known):
            return []
        scores = self._index.get_scores(known.tolist())
        start = 2**62 if query.date is None else parse_period(query.date).start
        candidates = np.flatnonzero((scores > 0) & (self._untils < start))
        order = candidates[np.lexsort((candidates, -self._untils[candidates], -scores[candidates]))][:k]
        return [Hit(int(self._rids[n]), float(scores[n]), is_shared=True) for n in order]

    def documents(self, rids: list[int]) -> list[Document]:
        """The documents in these rows."""
        return self._store.documents_at(SHARED_USER, rids)

    @cached_property
    def _index(self) -> Any:
        import bm25s

        return bm25s.BM25.load(self._folder, mmap=True, load_vocab=False)

    @cached_property
    def _terms(self) -> NDArray[Any]:
        return self._column("terms")

    @cached_property
    def _rids(self) -> NDArray[Any]:
        return self._column("rids")

    @cached_property
    def _untils(self) -> NDArray[Any]:
        return self._column("untils")

    def _column(self, name: str) -> NDArray[Any]:
        import numpy as np

        column: NDArray[Any] = np.load(self._folder / f"{name}.npy", mmap_mode="r")
        return column


def drop_index(folder: Path) -> None:
    """Removes the index of a workspace's shared corpus, before its documents change."""
    shutil.rmtree(folder / "shared.bm25s", ignore_errors=True)


def build(folder: Path) -> None:
    """Makes the index of a workspace's shared corpus, in one atomic step.

    Raises:
        DataError: If the corpus has no document with a word in it.
    """
    import bm25s
    import numpy as np

    with Store(folder / "shared.sqlite") as store:
        history = store.history(SHARED_USER)
    hashes = np.frombuffer(b"".join([entry.hashes for entry in history.entries]), dtype="<u8")
    if not len(hashes):
        raise DataError("the shared corpus has no words", hint="index some documents with --corpus shared")
    terms, places = np.unique(hashes, return_inverse=True)
    ends = np.cumsum([len(entry.hashes) >> 3 for entry in history.entries])
    documents = [part.tolist() for part in np.split(places, ends[:-1])]
    index = bm25s.BM25(method="lucene", k1=K1, b=B)
    vocabulary = {int(term): place for place, term in enumerate(terms)}
    index.index((documents, vocabulary), create_empty_token=False, show_progress=False)
    untils = [_UNDATED if entry.until is None else entry.until for entry in history.entries]
    columns = {"terms": terms, "rids": np.array([e.rid for e in history.entries]), "untils": np.array(untils)}
    _save(folder / "shared.bm25s", index, columns)


def _save(folder: Path, index: Any, columns: dict[str, Any]) -> None:
    import numpy as np

    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(mode=0o700)
    index.vocab_dict = {}  # the terms are kept as an array
    index.save(temporary, show_progress=False)
    for name, column in columns.items():
        np.save(temporary / f"{name}.npy", column, allow_pickle=False)
    for file in temporary.iterdir():
        file.chmod(0o600)
    shutil.rmtree(folder, ignore_errors=True)
    temporary.replace(folder)
