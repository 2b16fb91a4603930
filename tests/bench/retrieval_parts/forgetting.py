"""Forgetting a long history: how long its deletion takes, and whether a byte of it is left in any file."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from statistics import median

from prlm_cli.core.workspace import Workspace
from prlm_cli.pipeline.forget import forget
from tests.bench.figures import Figures
from tests.bench.retrieval_parts.stores import Bench

_ROUNDS = 3


def measure_forget(bench: Bench, figures: Figures) -> None:
    """Forgets the user with the most documents, in copies of the store of the middle size.

    `forget_files_with_traces`: files in which the user's id, or a word that only this user has, is still found.
    """
    indexed = bench.by_size["100k"]
    user = max(range(len(indexed.corpus.sizes)), key=indexed.corpus.sizes.__getitem__)
    user_id = indexed.corpus.user_id(user)
    taken, traces = [], 0
    for _ in range(_ROUNDS):
        copy = bench.folder / "forgetting"
        shutil.copytree(indexed.workspace.folder, copy)
        _write_back(copy)
        assert files_with(copy, user_id)
        taken.append(forget(Workspace(copy), user_id=user_id))
        traces += len(files_with(copy, user_id))
        shutil.rmtree(copy)
    figures.add("forget_documents", indexed.corpus.sizes[user], "documents")
    figures.add("forget_seconds_3000", median(one.erase_seconds for one in taken), "s")
    figures.add("forget_compact_seconds_3000", median(one.compact_seconds for one in taken), "s")
    figures.add("forget_scan_seconds_3000", median(one.scan_seconds for one in taken), "s")
    figures.add("forget_files_with_traces", traces, "files")


def _write_back(folder: Path) -> None:
    """Waits until the copy is on the disk: else the deletion's own wait for the disk would be for the copy, too."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as stream:
                os.fsync(stream.fileno())


def files_with(folder: Path, text: str) -> list[Path]:
    """The files below a folder that hold a text."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path for path in files if text.encode() in path.read_bytes()]
