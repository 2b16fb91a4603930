"""`kill -9` at any moment leaves whole blocks, and the same command completes them."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time

import pytest

from prlm_cli.core.workspace import Workspace
from prlm_cli.pipeline.index import index

_DOCUMENTS = 12_000


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "many.jsonl"
    rows = ({"user_id": f"u{n % 50}", "doc_id": str(n), "text": f"word{n} " * 40} for n in range(_DOCUMENTS))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, data):
    """What a run that nobody kills leaves, and how long it takes as a process."""
    place = Workspace(tmp_path_factory.mktemp("unbroken"))
    started = time.monotonic()
    _start(place, data).wait()
    return _content(place), time.monotonic() - started


def _start(place, data):
    command = [sys.executable, "-m", "prlm_cli", "index", str(data), "-w", str(place.folder), "-q"]
    return subprocess.Popen(command)


def _content(place):
    with place.open_store() as store:
        assert store.quick_check() == "ok"
        return {user: (store.documents(user), store.history(user).entries) for user in sorted(store.users())}


def _killed_and_completed(place, data, seconds):
    """What the same command leaves after a run that was killed after so many seconds."""
    process = _start(place, data)
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    process.wait()
    if place.index.exists() and place.index.stat().st_size:
        kept = sum(len(documents) for documents, _ in _content(place).values())
        assert 0 <= kept <= _DOCUMENTS
    index(place, [data])
    return _content(place)


@pytest.mark.parametrize("share", [0.5, 0.75, 0.95])
def test_a_killed_index_has_lost_nothing_and_the_same_command_completes_it(tmp_path, data, unbroken, share):
    content, seconds = unbroken

    assert _killed_and_completed(Workspace(tmp_path / "ws"), data, share * seconds) == content


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(60))
def test_an_index_survives_a_kill_at_any_moment(tmp_path, data, unbroken, seed):
    content, seconds = unbroken
    share = random.Random(seed).uniform(0, 1.1)

    assert _killed_and_completed(Workspace(tmp_path / "ws"), data, share * seconds) == content
