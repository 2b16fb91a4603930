from __future__ import annotations

import os
import re
import stat
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prlm_cli.core import workspace as module
from prlm_cli.core.errors import DataError, SettingsError, StorageError
from prlm_cli.core.workspace import Workspace, check_name, read_json, write_text


@pytest.fixture
def place(tmp_path):
    return Workspace(tmp_path / "ws")


@pytest.fixture(autouse=True)
def _clock(monkeypatch):
    """Each run starts a second after the last, so that "newest" is certain."""
    seconds = iter(range(10, 60))
    monkeypatch.setattr(module, "_now", lambda: f"2024-01-01T00:00:{next(seconds)}+00:00")


def _finished(place, kind, name=None):
    run = place.new_run(kind, name)
    run.start(kind, "seed = 0\n")
    run.finish({"loss": 0.5})
    return run


def test_reading_creates_nothing(place):
    assert place.runs() == []
    assert place.latest("policy") is None
    with pytest.raises(DataError, match=r"no index in .*ws; run `prlm index DATA` first"):
        place.open_store()
    with pytest.raises(DataError, match="no run 'x'"):
        place.run("x")
    assert not place.folder.exists()


def test_an_index_is_made_in_the_number_of_shards_asked_for_and_found_again(tmp_path):
    one, four = Workspace(tmp_path / "one"), Workspace(tmp_path / "four")
    assert (four.number_of_shards(), four.number_of_shards(4), four.index.name) == (1, 4, "index.sqlite")
    one.open_store(create=True, shards=1).__exit__()
    four.open_store(create=True, shards=4, language="german").__exit__()

    assert (one.number_of_shards(), one.index.name, one.index.is_file()) == (1, "index.sqlite", True)
    assert (four.number_of_shards(), four.index.name, len(list(four.index.iterdir()))) == (4, "index", 4)
    for place, number in ((one, 1), (four, 4)):
        for create in (False, True):
            place.open_store(create=create).__exit__()
            place.open_store(create=create, shards=number).__exit__()
    with four.open_store() as store:
        assert store.language == "german"


@pytest.mark.parametrize(("made", "what"), [(1, "one file"), (4, "4 shards")])
@pytest.mark.parametrize("create", [False, True])
def test_an_index_in_another_number_of_shards_is_refused(place, made, what, create):
    place.open_store(create=True, shards=made).__exit__()

    with pytest.raises(SettingsError, match=rf"is {what}, not 2; index into a new workspace, -w DIR"):
        place.open_store(create=create, shards=2)


def test_a_file_and_a_folder_of_shards_are_one_index_too_many(place):
    place.open_store(create=True, shards=2).__exit__()
    (place.folder / "index.sqlite").touch()

    with pytest.raises(StorageError, match=r"holds index.sqlite and a folder index; move one of them away"):
        place.open_store()


def test_a_run_is_running_from_start_to_finish_and_keeps_what_made_it(place):
    run = place.new_run("reward", None)
    run.start("reward", "seed = 3\n", pairs_hash="abc")
    running = place.run("reward-1")

    assert (running.config, running.metrics, running.is_finished) == ("seed = 3\n", {}, False)
    run.append_log({"step": 1})
    run.append_log({"step": 2})
    run.finish({"auc": 0.75})
    assert running.is_finished
    assert running.metrics == {"auc": 0.75}
    assert running.log.read_text().splitlines() == ['{"step": 1}', '{"step": 2}']
    assert running.state.items() >= {"kind": "reward", "status": "finished", "pairs_hash": "abc"}.items()
    assert running.state["started"] < running.state["finished"]


def test_latest_is_the_newest_finished_run_of_its_kind(place):
    old = place.new_run("policy", "z")
    old.start("policy", "")
    _finished(place, "policy", "a")
    _finished(place, "reward", "b")
    warm_start = place.new_run("policy", "c")
    warm_start.start("policy", "", is_warm_start=True)
    warm_start.finish({})
    place.new_run("policy", "running").start("policy", "")

    assert place.latest("policy").name == "a"
    old.finish({})
    assert place.latest("policy").name == "z"
    assert place.latest("reward").name == "b"
    assert [run.name for run in place.runs()] == ["z", "a", "b", "c", "running"]


def test_a_run_without_a_name_gets_the_next_free_number(place):
    names = [_finished(place, "policy").name for _ in range(3)]
    place.remove(place.run("policy-2"))

    assert names == ["policy-1", "policy-2", "policy-3"]
    assert _finished(place, "policy").name == "policy-2"
    assert _finished(place, "reward").name == "reward-1"
    assert place.new_run("policy", "mine").name == "mine"


def test_a_removed_run_is_gone_with_all_its_files(place):
    run = _finished(place, "policy", "mine")
    place.remove(run)

    assert not run.folder.exists()
    with pytest.raises(DataError, match="no run 'mine'"):
        place.run("mine")


def test_an_unknown_run_is_named_with_the_nearest_one(place):
    _finished(place, "policy", "first-try")

    with pytest.raises(DataError, match=r"no run 'frist-try' in .*; did you mean first-try\?"):
        place.run("frist-try")


def test_a_damaged_run_does_not_hide_the_names_of_the_others(place):
    _finished(place, "policy", "first-try")
    (place.runs_folder / "damaged").mkdir()
    (place.runs_folder / "damaged" / "state.json").write_text("{}")

    with pytest.raises(DataError, match=r"did you mean first-try\?"):
        place.run("frist-try")
    place.remove(place.run("damaged"))
    assert [run.name for run in place.runs()] == ["first-try"]


def test_where_there_is_no_run_the_hint_says_so(place):
    with pytest.raises(DataError, match=r"no run 'x' in .*; there is none yet"):
        place.run("x")


def test_a_removed_run_leaves_no_lock_file(place):
    run = _finished(place, "policy", "mine")
    with place.write_lock("mine"):
        assert (place.folder / ".mine.lock").exists()
        place.remove(run)

    assert [entry.name for entry in place.folder.rglob("*")] == ["runs"]
    place.remove(_finished(place, "policy", "never-locked"))


def test_a_run_that_cannot_be_removed_is_a_storage_error(place, monkeypatch):
    def refuse(folder):
        raise PermissionError(13, "Permission denied", str(folder))

    run = _finished(place, "policy", "mine")
    monkeypatch.setattr("shutil.rmtree", refuse)

    with pytest.raises(StorageError, match=r"mine: Permission denied; check the permissions"):
        place.remove(run)


@pytest.mark.parametrize("name", ["a", "0", "a.b_c-d", "a" * 64, "con", "policy-1"])
def test_a_run_may_have_a_simple_name(name):
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "a\\b", "A", "a b", "-a", ".a", "a" * 65, "é", "a\n", "\u0661"]
)
def test_a_run_may_not_have_a_name_that_is_a_path_or_odd(place, name):
    with pytest.raises(DataError, match="cannot name a run"):
        check_name(name)
    if name:
        with pytest.raises(DataError, match="cannot name a run"):
            place.new_run("policy", name)


@given(st.text(max_size=70))
def test_an_allowed_name_is_one_safe_part_of_a_path(name):
    try:
        allowed = check_name(name)
    except DataError:
        return

    assert os.path.basename(os.path.normpath(allowed)) == allowed  # noqa: PTH119
    assert re.fullmatch(r"[ -~]{1,64}", allowed) and allowed == allowed.lower()


def test_files_and_folders_are_their_owners_alone_whatever_the_umask(place):
    before = os.umask(0)
    try:
        with place.write_lock(), place.open_store(create=True):
            run = _finished(place, "policy")
            run.append_log({"step": 1})
    finally:
        os.umask(before)

    modes = {entry.relative_to(place.folder): stat.S_IMODE(entry.stat().st_mode) for entry in place.folder.rglob("*")}
    assert stat.S_IMODE(place.folder.stat().st_mode) == 0o700
    assert {str(entry) for entry, mode in modes.items() if mode & 0o077} == set()


def test_write_text_replaces_in_one_step_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "new" / "file.txt"
    write_text(path, "é\n")
    write_text(path, "two\n")

    assert path.read_text() == "two\n"
    assert [entry.name for entry in path.parent.iterdir()] == ["file.txt"]


def test_a_folder_that_cannot_be_made_is_a_storage_error(tmp_path):
    (tmp_path / "file").write_text("")
    place = Workspace(tmp_path / "file")

    with pytest.raises(StorageError, match=r"file: File exists; name another workspace with -w"):
        place.open_store(create=True)
    with pytest.raises(StorageError, match="File exists"):
        write_text(tmp_path / "file" / "x", "")


@pytest.mark.parametrize("content", [None, b"", b"{", b"\xff", b"[]", b"3"])
def test_a_damaged_state_is_a_storage_error(tmp_path, content):
    path = tmp_path / "state.json"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(StorageError, match=r"state\.json cannot be read; remove the run with `prlm runs rm`"):
        read_json(path)


@pytest.mark.parametrize(
    "content",
    ["{}", '{"kind": "policy", "status": "running"}', '{"kind": 1, "status": "finished", "started": "x"}'],
)
def test_a_state_that_lacks_something_is_a_storage_error(place, content):
    run = _finished(place, "policy", "mine")
    (run.folder / "state.json").write_text(content)

    for use in (lambda: run.state, lambda: run.is_finished, place.runs, lambda: place.latest("policy")):
        with pytest.raises(StorageError, match=r"state\.json cannot be read; remove the run with `prlm runs rm`"):
            use()


def test_a_finished_state_needs_the_time_of_its_end(place):
    run = _finished(place, "policy", "mine")
    (run.folder / "state.json").write_text('{"kind": "policy", "status": "finished", "started": "x"}')

    with pytest.raises(StorageError, match="cannot be read"):
        place.latest("policy")


@pytest.mark.parametrize("content", [None, b"\xff"], ids=["missing", "not UTF-8"])
def test_a_configuration_that_cannot_be_read_is_a_storage_error(place, content):
    run = _finished(place, "policy", "mine")
    path = run.folder / "config.toml"
    path.unlink() if content is None else path.write_bytes(content)

    with pytest.raises(StorageError, match=r"config\.toml cannot be read; remove the run with `prlm runs rm`"):
        run.config  # noqa: B018


class _Notes:
    def __init__(self):
        self.said = []

    def note(self, text):
        self.said.append(text)


@pytest.fixture
def notes(monkeypatch):
    monkeypatch.setattr(module, "_PATIENCE", 0.05)
    monkeypatch.setattr(module, "_LOCK_TIMEOUT", 0.1)
    return _Notes()


def test_the_lock_is_held_by_one_at_a_time_and_by_name(place, notes):
    with place.write_lock(), place.write_lock("train"):
        with pytest.raises(StorageError, match=rf"another prlm \(process {os.getpid()}\) is writing; try again"):
            _hold_in_thread(place, notes)
        assert notes.said == [f"waiting for another prlm (process {os.getpid()}), which is writing to {place.folder}"]
    _hold_in_thread(place, notes)
    assert len(notes.said) == 1


def _hold_in_thread(place, notes):
    """Tries the lock from another thread, as another process would."""
    from concurrent.futures import ThreadPoolExecutor

    def hold():
        with place.write_lock(reporter=notes):
            pass

    with ThreadPoolExecutor(1) as pool:
        pool.submit(hold).result()


def test_the_lock_ends_with_an_error_inside_and_with_the_process(place, notes):
    with pytest.raises(ZeroDivisionError), place.write_lock():
        raise ZeroDivisionError
    with place.write_lock():
        pass
    code = (
        "import sys, os; from pathlib import Path; from prlm_cli.core.workspace import Workspace\n"
        "with Workspace(Path(sys.argv[1])).write_lock(): os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(place.folder)], check=False).returncode == 9
    with place.write_lock():
        pass


def test_only_a_finished_run_of_the_kind_is_given(place):
    for name, kind in [("done", "reward"), ("begun", "reward"), ("other", "policy")]:
        run = place.new_run(kind, name)
        run.start(kind, "")
        if name != "begun":
            run.finish({})

    assert place.finished_run("done", "reward").name == "done"
    for name in ("begun", "other"):
        with pytest.raises(DataError, match=f"run '{name}' is not a finished reward model; see `prlm runs`"):
            place.finished_run(name, "reward")
