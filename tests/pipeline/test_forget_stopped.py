"""A `forget` that is held up or stopped: the same again completes it."""

from __future__ import annotations

import random
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from prlm_cli.core import connection
from prlm_cli.core.errors import DataError, StorageError
from prlm_cli.core.records import Document
from prlm_cli.core.store import Store
from prlm_cli.pipeline import forget as module
from prlm_cli.pipeline.forget import forget
from tests.pipeline.canaries import holding


def test_what_is_in_the_log_of_another_connection_is_gone_too(place):
    workspace, corpus = place
    user_id = corpus.user_ids["a"]
    other = sqlite3.connect(workspace.index)
    other.execute("SELECT count(*) FROM doc").fetchone()
    with workspace.open_store(create=True) as store:
        store.add_documents([Document(user_id=user_id, doc_id="late", text=corpus.canary(user_id))])
    log = workspace.index.with_name("index.sqlite-wal")
    assert log.name in holding(workspace.folder, corpus.canaries[user_id])

    forget(workspace, user_id=user_id)

    assert log.stat().st_size == 0
    assert holding(workspace.folder, corpus.canaries[user_id]) == set()
    other.close()


def test_a_reader_of_the_state_of_before_holds_it_up_and_the_same_again_completes_it(place, monkeypatch):
    workspace, corpus = place
    user_id = corpus.user_ids["a"]
    monkeypatch.setattr(connection, "_LOCK_TIMEOUT", 0.1)
    with workspace.open_store() as reader, reader.snapshot():
        reader.count()
        with pytest.raises(StorageError, match="still read by another prlm: not yet erased"):
            forget(workspace, user_id=user_id)

    forgotten = forget(workspace, user_id=user_id)

    assert (forgotten.documents, forgotten.queries) == (3, 4)
    assert forgotten.scanned_bytes > 0
    assert holding(workspace.folder, corpus.canaries[user_id]) == set()


_STEPS = [
    (module, "_write_journal"),
    (module, "clean"),
    (Store, "erase"),
    (Store, "truncate_log"),
    (Store, "compact"),
    (module, "search"),
]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("owner", "step"), _STEPS, ids=[step for _, step in _STEPS])
@pytest.mark.parametrize("doc_id", [None, "d2"], ids=["user", "document"])
def test_stopped_anywhere_the_same_again_completes_it(place, monkeypatch, owner, step, when, doc_id):
    workspace, corpus = place
    user_id = corpus.user_ids["a"]
    mine = corpus.canaries[user_id] if doc_id is None else corpus.of_document[user_id, doc_id]
    done = getattr(owner, step)

    def stop(*args, **kwargs):
        if when == "after":
            done(*args, **kwargs)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(owner, step, stop)
        with pytest.raises(KeyboardInterrupt):
            forget(workspace, user_id=user_id, doc_id=doc_id)
    forgotten = forget(workspace, user_id=user_id, doc_id=doc_id)

    assert forgotten.documents == (3 if doc_id is None else 1)
    assert holding(workspace.folder, mine) == set()
    with pytest.raises(DataError, match="in the index; nor in a file of the workspace"):
        forget(workspace, user_id=user_id, doc_id=doc_id)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_killed_at_any_moment_the_same_again_completes_it(place, seed):
    workspace, corpus = place
    user_id = corpus.user_ids["a"]
    command = [sys.executable, "-m", "prlm_cli", "forget", "--user", user_id, "--yes", "-w", str(workspace.folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(random.Random(seed).uniform(0.2, 1.2))
    process.send_signal(signal.SIGKILL)
    if process.wait() < 0:
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0 or "nor in a file of the workspace" in done.stderr

    assert holding(workspace.folder, corpus.canaries[user_id]) == set()


def test_a_damaged_journal_is_named(place):
    workspace, corpus = place
    user_id = corpus.user_ids["a"]
    module._journal_of(workspace, user_id, None).write_bytes(b"x")

    with pytest.raises(StorageError, match=r"\.forget-\w+\.journal cannot be read; remove it and run it again"):
        forget(workspace, user_id=user_id)
