"""The shared corpus: documents that belong to no user, retrieved by bm25s from one index for everybody.

    shared.sqlite   the documents, in a store of their own, as those of the user ""
    shared.bm25s/   bm25s' index of them, memory-mapped; it is made anew after a change

Every query sees statistics over all of the corpus; of dated documents it gets only strictly older ones.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prlm_cli.core.dates import parse_period
from prlm_cli.core.errors import DataError, StorageError
from prlm_cli.core.records import Document, Query
from prlm_cli.core.settings import RetrievalSettings
from prlm_cli.core.store import Store
from prlm_cli.retrievers.eligible import end_of_sight
from prlm_cli.retrievers.hit import Hit

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHARED_USER = ""
"""Whose the shared documents are in their store; no user can have this id."""

_UNDATED = -(2**62)  # older than every query
_ATTEMPTS = 5  # to take the place of an index that readers make as well


class SharedCorpus:
    """The shared corpus of a workspace, open for queries until it is closed. They all see one state of it.

    Args:
        folder: The workspace's.

    Raises:
        DataError: If there is none.
        StorageError: If it cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        if not (folder / "shared.sqlite").exists():
            raise DataError(f"no shared corpus in {folder}", hint="run `prlm index --corpus shared DATA` first")
        self._folder = folder / "shared.bm25s"
        with contextlib.ExitStack() as stack:
            self._store = stack.enter_context(Store(folder / "shared.sqlite"))
            stack.enter_context(self._store.snapshot())
            self._tokenizer = self._store.tokenizer
            if not self._folder.exists():
                build(folder, replace=False)
            self._load()
            self._open = stack.pop_all()

    def close(self) -> None:
        """Lets go of the files."""
        self._open.close()

    def search(self, query: Query, settings: RetrievalSettings, accepts: Callable[[Document], bool]) -> list[Hit]:
        """The best k documents that share a word with the query, best first; of equal ones the newest.

        Args:
            query: The query.
            settings: How many, and which dates.
            accepts: Whether a document may be shown, apart from its date.
        """
        import numpy as np

        from prlm_cli.retrievers.term_index import places_of

        known = places_of(self._tokenizer.terms(query.text), self._terms)
        if not known:
            return []
        scores = self._index.get_scores(known)
        candidates = np.flatnonzero((scores > 0) & self._in_sight(query, settings))
        order = candidates[np.lexsort((candidates, -self._untils[candidates], -scores[candidates]))]
        found: list[Hit] = []
        for start in range(0, len(order), settings.k):
            some = order[start : start + settings.k]
            rows = self._rids[some].tolist()
            found += [
                Hit(row, score, is_shared=True)
                for row, score, document in zip(rows, scores[some].tolist(), self.documents(rows), strict=True)
                if accepts(document)
            ]
            if len(found) >= settings.k:
                break
        return found[: settings.k]

    def documents(self, rids: list[int]) -> list[Document]:
        """The documents in these rows."""
        return self._store.documents_at(SHARED_USER, rids)

    def _in_sight(self, query: Query, settings: RetrievalSettings) -> NDArray[Any]:
        """Which documents the dates allow, (N,); undated ones belong to all times, but not to a stretch of it."""
        end = end_of_sight(query, settings)
        allowed: NDArray[Any] = self._untils < (2**62 if end is None else end)
        if settings.since is not None:
            is_recent = self._untils >= parse_period(settings.since).start
            allowed &= is_recent | (self._untils == _UNDATED) if settings.undated == "keep" else is_recent
        return allowed

    def _load(self) -> None:
        import bm25s
        import numpy as np

        try:
            self._index = bm25s.BM25.load(self._folder, mmap=True, load_vocab=False)
            self._terms, self._rids, self._untils = (
                np.load(self._folder / f"{name}.npy", mmap_mode="r") for name in ("terms", "rids", "untils")
            )
        except (OSError, ValueError, KeyError) as error:
            raise StorageError(f"{self._folder} cannot be read", hint="remove it: it is made anew") from error


def drop_index(folder: Path) -> None:
    """Removes the index of a workspace's shared corpus, before its documents change."""
    shutil.rmtree(folder / "shared.bm25s", ignore_errors=True)


def build(folder: Path, *, replace: bool = True) -> None:
    """Makes the index of a workspace's shared corpus, in one atomic step.

    Args:
        folder: The workspace's.
        replace: Whether it takes the place of one that is there; only a writer of the corpus can know.

    Raises:
        DataError: If the corpus has no document with a word in it.
        StorageError: If it cannot be written.
    """
    import numpy as np

    from prlm_cli.retrievers.term_index import build_index

    with Store(folder / "shared.sqlite") as store:
        history = store.history(SHARED_USER)
    hashes = [entry.hashes for entry in history.entries]
    if not any(hashes):
        raise DataError("the shared corpus has no words", hint="index some documents with --corpus shared")
    terms, index = build_index(hashes)
    untils = [_UNDATED if entry.until is None else entry.until for entry in history.entries]
    columns = {"terms": terms, "rids": np.array([e.rid for e in history.entries]), "untils": np.array(untils)}
    _save(folder / "shared.bm25s", index, columns, replace)


def _save(folder: Path, index: Any, columns: dict[str, Any], replace: bool) -> None:
    import numpy as np

    try:
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
            made = Path(temporary) / folder.name
            made.mkdir(mode=0o700)
            index.vocab_dict = {}  # the terms are kept as an array
            index.save(made, show_progress=False)
            for name, column in columns.items():
                np.save(made / f"{name}.npy", column, allow_pickle=False)
            for file in made.iterdir():
                file.chmod(0o600)
            _put(made, folder, replace)
    except OSError as error:
        raise StorageError(f"{folder}: {error.strerror}", hint="check the disk and permissions") from error


def _put(made: Path, folder: Path, replace: bool) -> None:
    for _ in range(_ATTEMPTS):
        if replace:
            shutil.rmtree(folder, ignore_errors=True)
        try:
            made.rename(folder)
            return
        except OSError:  # a reader has put one there meanwhile
            if not replace and folder.is_dir():
                return
    raise StorageError(f"{folder} cannot be replaced", hint="check the permissions")
