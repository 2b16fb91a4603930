"""Ingest killed at a random moment, again and again: what must be there afterwards."""

from __future__ import annotations

import hashlib
import random
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from statistics import mean
from typing import NamedTuple

from prlm_cli.core.errors import DataError, PrlmError
from prlm_cli.core.workspace import Workspace
from tests.bench.figures import Figures, progress
from tests.bench.processes import environment, prlm, run
from tests.bench.retrieval_parts.stores import Bench

_ROWS = """
SELECT user_id, doc_id, title, text, date, until, hashes FROM doc
JOIN user USING (uid) LEFT JOIN term USING (rid) ORDER BY user_id, doc_id
"""


class Kill(NamedTuple):
    """What came of one kill, `after` so many seconds: whether all was well in the end, and what it had left."""

    after: float
    documents: int
    survived: bool


def content_hash(index: Path) -> str:
    """A hash of all documents and their terms, read without the program's own code; rows without a user show too."""
    digest = hashlib.sha256()
    with closing(_open(index)) as db:
        for row in db.execute(_ROWS):
            digest.update(repr(row).encode("utf-8", "surrogatepass"))
        for table in ("doc", "term"):
            digest.update(f"{table}:{_count(db, table)}".encode())
    return digest.hexdigest()


def kills(data: Path, folder: Path, count: int, *, seed: int = 0) -> Iterator[Kill]:
    """Kills `count` ingests of a file, each at a moment drawn from the time between the birth of the index and the end.

    Before the index is there, a kill cannot harm; a slow start gives some of those, too.

    Args:
        data: Documents, JSONL.
        folder: Where the workspaces lie; made here.
        count: How many. An ingest that ended before its moment came does not count and is done again.
        seed: Of the moments.
    """
    rng = random.Random(seed)
    whole = Workspace(folder / "whole")
    for _ in range(2):  # the second time counts: everything is in the page cache then, as for all later ones
        shutil.rmtree(whole.folder, ignore_errors=True)
        birth, end = _birth_and_end(data, whole)
    expected = content_hash(whole.index)
    for number in range(count):
        workspace = Workspace(folder / f"killed-{number}")
        while not _is_killed(_index(data, workspace), delay := rng.uniform(birth, end)):
            shutil.rmtree(workspace.folder)
        left = documents_after_kill(workspace)
        yield Kill(delay, left or 0, left is not None and is_completed(data, workspace, expected))
        shutil.rmtree(workspace.folder, ignore_errors=True)


def _index(data: Path, workspace: Workspace) -> list[str]:
    return prlm("index", data, "-w", workspace.folder, "-q")


def _start(command: list[str]) -> subprocess.Popen[bytes]:
    silent = subprocess.DEVNULL
    return subprocess.Popen(command, stdin=silent, stdout=silent, stderr=silent, env=environment())


def _birth_and_end(data: Path, workspace: Workspace) -> tuple[float, float]:
    """When, in seconds, an unbroken ingest makes the index, and when it is done."""
    start = time.perf_counter()
    with _start(_index(data, workspace)) as process:
        while not workspace.index.exists() and process.poll() is None:
            time.sleep(0.002)
        birth = time.perf_counter() - start
    assert process.returncode == 0, process.returncode
    return birth, time.perf_counter() - start


def _is_killed(command: list[str], delay: float) -> bool:
    """Runs a command, kills it after a delay in seconds, and says whether that met it alive."""
    with _start(command) as process:
        time.sleep(delay)
        process.kill()
    return process.returncode == -9


def documents_after_kill(workspace: Workspace) -> int | None:
    """How many documents a killed ingest left; None if the store is not sound or does not open."""
    try:
        with workspace.open_store():
            pass
    except DataError:  # there is no index yet
        return 0
    except PrlmError:
        return None
    with closing(_open(workspace.index)) as db:
        if db.execute("PRAGMA integrity_check").fetchall() != [("ok",)]:
            return None
        return _count(db, "doc")


def is_completed(data: Path, workspace: Workspace, expected: str) -> bool:
    """Whether the same command once more leaves exactly what an unbroken one does."""
    try:
        run(_index(data, workspace))
    except RuntimeError:
        return False
    return content_hash(workspace.index) == expected


def _open(index: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{index.resolve().as_uri()}?mode=rw", uri=True)


def _count(db: sqlite3.Connection, table: str) -> int:
    return int(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def measure_kills(bench: Bench, figures: Figures) -> None:
    """`kills_survived_share`; of the kills, `kills_midway_share` left a part of the documents, neither none nor all."""
    sizes = [20] * (bench.scale.killed_documents // 20)
    data = bench.indexed("kills", sizes).file
    done = []
    for kill in kills(data, bench.folder / "killed", bench.scale.kills):
        done.append(kill)
        if not kill.survived or len(done) % 20 == 0:
            fate = "survived" if kill.survived else f"NOT SURVIVED, after {kill.after:.3f} s"
            progress(f"kill {len(done)} of {bench.scale.kills}: {fate}")
    figures.add("kills", len(done), "kills")
    figures.add("kills_midway_share", mean(0 < kill.documents < sum(sizes) for kill in done), "")
    figures.add("kills_survived_share", mean(kill.survived for kill in done), "")
