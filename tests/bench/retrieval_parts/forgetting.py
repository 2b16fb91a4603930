"""Forgetting a long history: how long its deletion takes, and whether a byte of it is left in any file."""

from __future__ import annotations

import shutil
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import NamedTuple

from prlm_cli.core.workspace import Workspace
from tests.bench.figures import Figures, progress
from tests.bench.retrieval_parts.stores import Bench

_FORGET = "prlm_cli.pipeline.forget"
_ROUNDS = 3


class Forgotten(NamedTuple):
    """The seconds of deletion and truncation of the WAL, and of the scan of the files that verifies it."""

    erase: float
    scan: float


def forget(workspace: Workspace, user_id: str) -> Forgotten:
    """Forgets one user. ADAPTER: the one place here that knows how `prlm forget` is called."""
    done = import_module(_FORGET).forget(workspace, user_id=user_id)
    return Forgotten(done.erase_seconds, done.scan_seconds)


def measure_forget(bench: Bench, figures: Figures) -> None:
    """Forgets the user with the most documents, in copies of the store of the middle size.

    `forget_files_with_traces`: files in which the user's id, or a word that only this user has, is still found.
    """
    if find_spec(_FORGET) is None:
        progress(f"forget is not measured: there is no {_FORGET}")
        return
    indexed = bench.by_size["100k"]
    user = max(range(len(indexed.corpus.sizes)), key=indexed.corpus.sizes.__getitem__)
    user_id = indexed.corpus.user_id(user)
    taken, traces = [], 0
    for _ in range(_ROUNDS):
        copy = bench.folder / "forgetting"
        shutil.copytree(indexed.workspace.folder, copy)
        assert files_with(copy, user_id)
        taken.append(forget(Workspace(copy), user_id))
        traces += len(files_with(copy, user_id))
        shutil.rmtree(copy)
    figures.add("forget_documents", indexed.corpus.sizes[user], "documents")
    figures.add("forget_seconds_3000", median(one.erase for one in taken), "s")
    figures.add("forget_scan_seconds_3000", median(one.scan for one in taken), "s")
    figures.add("forget_files_with_traces", traces, "files")


def files_with(folder: Path, text: str) -> list[Path]:
    """The files below a folder that hold a text."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path for path in files if text.encode() in path.read_bytes()]
