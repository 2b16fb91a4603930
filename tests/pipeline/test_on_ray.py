"""Index and retrieve with `--engine ray` give what one process gives. One local Ray serves all tests here."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prlm_cli.core.errors import DataError, MissingError, SettingsError, StorageError
from prlm_cli.core.network import refuse_network
from prlm_cli.core.records import Query
from prlm_cli.core.settings import RetrievalSettings
from prlm_cli.core.shards import shards_in
from prlm_cli.core.workspace import Workspace
from prlm_cli.engines.cluster import cluster
from prlm_cli.pipeline import index_on_ray, retrieve_on_ray
from prlm_cli.pipeline.index import index
from prlm_cli.pipeline.inputs import Reading, open_inputs
from prlm_cli.pipeline.retrieve import retrieve
from prlm_cli.pipeline.scatter import scatter
from tests.conftest import tiny_corpus

# Ray Data sets deprecated options of its own.
pytestmark = pytest.mark.filterwarnings("ignore:.* is deprecated:DeprecationWarning:ray.data.context")

_SHARDS = 3
_index_on_ray = partial(index, engine="ray")
_retrieve_on_ray = partial(retrieve, engine="ray")


@pytest.fixture(scope="module")
def installed():
    if find_spec("ray") is None:  # without importing it: it is told some things before
        pytest.skip("NOT RUN: ray is not installed")


@pytest.fixture(scope="module")
def ray(installed):
    with cluster() as connected:
        yield connected


class Notes:
    """A reporter that keeps what it is told; it can be made to break a stage off."""

    def __init__(self, break_at=None):
        self.notes, self.stages, self._break_at = [], {}, break_at

    def note(self, text):
        self.notes.append(text)

    def stage(self, name):
        def count(done, total=0, **figures):
            self.stages[name] = done
            if name == self._break_at:
                raise KeyboardInterrupt

        return count


@pytest.fixture
def place(tmp_path):
    return Workspace(tmp_path / "ray")


@pytest.fixture
def local(tmp_path):
    return Workspace(tmp_path / "local")


def _content(place):
    """Every row of every shard."""
    rows = []
    for shard in shards_in(place.shards):
        with sqlite3.connect(shard.file_in(place.shards)) as db:
            rows += [shard, list(db.iterdump())]
        db.close()
    return rows


def _answers(place, engine, queries, *, window=10_000, **fields):
    notes = Notes()
    with place.open_store() as store:
        found = engine(store, queries, RetrievalSettings(**fields), seed=3, window=window, reporter=notes)
        return [msgspec.json.encode(record) for record in found], notes.notes


def test_what_is_indexed_and_retrieved_on_real_data_is_equal_to_the_byte(ray, place, local, shared_data):
    paths = sorted((shared_data / "commits-small").glob("*.jsonl"))
    expected = index(local, paths, shards=_SHARDS)
    reporter = Notes()

    assert _index_on_ray(place, paths, shards=_SHARDS, reporter=reporter) == expected
    assert _content(place) == _content(local)
    assert reporter.stages == {"check": len(paths), "index": _SHARDS}
    assert not (place.cache / "shuffle").exists()

    again = _index_on_ray(place, paths)
    assert (again.documents.unchanged, again.queries.unchanged) == (expected.documents.added, expected.queries.added)
    assert _content(place) == _content(local)

    single = Workspace(place.folder.parent / "single")
    index(single, paths)
    with single.open_store() as store:
        queries = list(store.queries())
    for fields in ({"retriever": "random", "k": 3}, {"k": 5, "dedupe": True}):
        alone, notes = _answers(single, retrieve, queries, **fields)
        assert len(alone) == len(queries)
        assert _answers(place, _retrieve_on_ray, queries, window=50, **fields) == (alone, notes)
    assert _answers(single, _retrieve_on_ray, queries, **fields) == (alone, notes)


@pytest.mark.slow
def test_several_inputs_of_several_formats_keep_their_order(ray, place, local, tmp_path, write_jsonl, monkeypatch):
    monkeypatch.chdir(tmp_path)
    corpus = tiny_corpus()
    changed = [record | {"text": "changed"} for record in corpus[:9]]
    write_jsonl(corpus, "a.jsonl")
    write_jsonl([*changed, {"query_id": "ada-q9", "user_id": "cem", "text": "another's now"}], "c.jsonl")
    (tmp_path / "b.csv").write_text('user_id,doc_id,text\nada,new,trees\nzoe,d,"two\nlines"\n')
    paths = [Path(name) for name in ("a.jsonl", "b.csv", "c.jsonl")]

    assert _index_on_ray(place, paths, shards=_SHARDS) == index(local, paths, shards=_SHARDS)
    assert _content(place) == _content(local)


def test_bad_lines_leave_the_index_as_it_was_and_are_told_as_by_one_process(ray, place, local, tmp_path, write_jsonl):
    corpus = write_jsonl(tiny_corpus())
    _index_on_ray(place, [corpus], shards=_SHARDS)
    index(local, [corpus], shards=_SHARDS)
    before = _content(place)
    bad = tmp_path / "bad.jsonl"
    bad.write_text("\n".join(["[]", '{"user_id": "u"}', '{"text": "t"}', "3", "{"]))
    paths = [corpus, bad, corpus]

    with pytest.raises(DataError) as expected:
        index(local, paths)
    with pytest.raises(DataError) as caught:
        _index_on_ray(place, paths)
    assert str(caught.value) == str(expected.value)
    assert _content(place) == before == _content(local)

    assert _index_on_ray(place, paths, skip_faults=True) == index(local, paths, skip_faults=True)
    assert _content(place) == _content(local)
    assert place.errors.read_bytes() == local.errors.read_bytes()


@pytest.mark.slow
def test_an_input_that_is_missing_empty_or_nothing_but_faults_is_told_as_by_one_process(ray, place, local, tmp_path):
    (tmp_path / "empty.jsonl").write_text("\n")
    (tmp_path / "faults.jsonl").write_text("{\n{\n")
    for name, skip in (("no.jsonl", False), ("empty.jsonl", False), ("faults.jsonl", True), ("faults.jsonl", False)):
        errors = []
        for run, workspace in ((index, local), (_index_on_ray, place)):
            with pytest.raises(DataError) as caught:
                run(workspace, [tmp_path / name], skip_faults=skip, shards=_SHARDS)
            errors.append(str(caught.value))
        assert errors[0] == errors[1]


@pytest.mark.parametrize("stage", [pytest.param("check", marks=pytest.mark.slow), "index"])
def test_an_interrupted_run_is_completed_by_the_same_command(ray, place, local, write_jsonl, stage):
    corpus = tiny_corpus() + [
        {"user_id": f"user {n % 50}", "doc_id": f"{n}", "text": f"document {n} on trees " * 9} for n in range(6000)
    ]
    paths = [write_jsonl(corpus[n::2], f"{n}.jsonl") for n in range(2)]
    with pytest.raises(KeyboardInterrupt):
        _index_on_ray(place, paths, shards=_SHARDS, reporter=Notes(break_at=stage))
    assert not place.is_locked("index")
    assert not (place.cache / "shuffle").exists()

    expected = index(local, paths, shards=_SHARDS).total
    assert _index_on_ray(place, paths, shards=_SHARDS).total == expected
    assert _content(place) == _content(local)


@pytest.mark.slow
def test_the_terms_of_all_shards_are_made_anew(ray, place, write_jsonl):
    _index_on_ray(place, [write_jsonl(tiny_corpus())], shards=_SHARDS)
    reporter = Notes()

    with pytest.raises(SettingsError, match="the index is in english, not german"):
        _index_on_ray(place, [write_jsonl(tiny_corpus())], language="german")
    result = _index_on_ray(place, rebuild=True, language="german", reporter=reporter)
    assert reporter.notes == ["made the terms of 24 documents anew"]
    assert result.total == {"users": 3, "documents": 24, "queries": 12}
    with place.open_store() as store:
        assert store.language == "german"
        assert len(store.history("ada")) == 8


@pytest.mark.slow
def test_a_shard_that_cannot_be_written_is_a_storage_error(ray, place, write_jsonl):
    _index_on_ray(place, [write_jsonl(tiny_corpus())], shards=_SHARDS)
    (place.shards / "001-of-003.sqlite").write_bytes(b"not a database" * 99)

    with pytest.raises(StorageError, match=r"001-of-003\.sqlite: file is not a database"):
        _index_on_ray(place, [write_jsonl(tiny_corpus())])


@pytest.mark.slow
def test_a_worker_that_dies_is_said_and_the_store_stays_sound(ray, place, local, write_jsonl, monkeypatch):
    path = write_jsonl(tiny_corpus())

    def die(*args, **kwargs):
        import os

        os._exit(1)

    with monkeypatch.context() as patch:
        patch.setattr(index_on_ray, "report", die)
        patch.setattr(index_on_ray, "_scatter_all", lambda *args: [])
        with pytest.raises(MissingError, match=r"Ray lost a worker .*; run the command again"):
            _index_on_ray(place, [path], shards=_SHARDS)
    assert _index_on_ray(place, [path]) == index(local, [path], shards=_SHARDS)
    assert _content(place) == _content(local)


@pytest.mark.slow
def test_an_error_comes_after_the_answers_before_it(ray, place, write_jsonl):
    _index_on_ray(place, [write_jsonl(tiny_corpus())], shards=_SHARDS)
    users = ["ada", "ben", "cem", "nobody"]
    queries = [Query(query_id=f"q{n}", user_id=users[n % 4], text="trees") for n in range(40)]
    queries[30] = msgspec.structs.replace(queries[30], date="soon")
    damaged = next(shard for shard in shards_in(place.shards) if shard.holds("cem"))

    found = []
    with place.open_store() as store, pytest.raises(DataError, match="query q30: field 'date' is not a date"):
        for record in _retrieve_on_ray(store, queries, RetrievalSettings(), window=8):
            found.append(record.query_id)
    assert found == [f"q{n}" for n in range(30)]

    with sqlite3.connect(damaged.file_in(place.shards)) as db:
        db.execute("UPDATE term SET hashes = x'00' WHERE rid >> 24 = (SELECT uid FROM user WHERE user_id = 'cem')")
    db.close()
    for engine in (retrieve, _retrieve_on_ray):
        found = []
        with place.open_store() as store, pytest.raises(StorageError, match="damaged rows"):
            for record in engine(store, queries, RetrievalSettings(), window=8):
                found.append(record.query_id)
        assert found == ["q0", "q1"]


@pytest.mark.slow
def test_what_was_left_out_is_counted_over_all_workers(ray, place, write_jsonl):
    documents = [
        {"user_id": f"u{n}", "text": f"t{m}"} | ({"date": "2020"} if m else {}) for n in range(9) for m in (0, 1)
    ]
    _index_on_ray(place, [write_jsonl(documents)], shards=_SHARDS)
    queries = [Query(query_id=f"{n}", user_id=f"u{n}", text="t", date="2024") for n in range(20)]

    _, notes = _answers(place, _retrieve_on_ray, queries)
    assert notes == _answers(place, retrieve, queries)[1]
    assert [note.partition(" ")[0] for note in notes] == ["11", "9"]


@pytest.mark.slow
def test_a_line_of_a_stream_is_answered_before_the_next_is_read(ray, place, write_jsonl):
    _index_on_ray(place, [write_jsonl(tiny_corpus())], shards=_SHARDS)
    read = []

    def stream():
        for n in range(3):
            read.append(n)
            yield Query(query_id=f"{n}", user_id="ada", text="trees")

    with place.open_store() as store:
        for record in _retrieve_on_ray(store, stream(), RetrievalSettings(), window=1):
            assert int(record.query_id) == read[-1]


@pytest.mark.slow
def test_the_commands_say_and_print_the_same_as_those_of_one_process(ray, prlm, tmp_path, write_jsonl):
    data = write_jsonl(tiny_corpus())
    outputs = []
    for engine in ("local", "ray"):
        common = ("-w", tmp_path / engine, "--engine", engine)
        ran = [prlm("index", data, "--shards", 3, *common), prlm("index", data, "--json", *common)]
        ran += [prlm("retrieve", "--split", split, *common) for split in ("test", "train")]
        ran += [prlm("retrieve", "-", *common, input='{"query_id": "q", "user_id": "ada", "text": "trees"}\n')]
        outputs.append(ran)

    assert outputs[0] == outputs[1]
    assert all(result.exit_code == 0 for result in outputs[0])


@settings(max_examples=15)
@given(records=st.permutations(tiny_corpus()[8:28]), cut=st.integers(1, 19))
def test_what_the_tasks_of_index_do_gives_what_one_process_stores(tmp_path_factory, records, cut):
    folder = tmp_path_factory.mktemp("tasks")
    paths = [folder / "a.jsonl", folder / "b.jsonl"]
    for path, part in zip(paths, (records[:cut], records[cut:]), strict=True):
        path.write_text("".join(json.dumps(record) + "\n" for record in part))
    local, place = Workspace(folder / "local"), Workspace(folder / "place")
    expected = index(local, paths, shards=_SHARDS)

    place.open_store(create=True, shards=_SHARDS).__exit__()
    units = open_inputs(paths, lambda: folder, Reading({}, None, False)).apart()
    scattered = [scatter(unit, folder, _SHARDS, skip_faults=False) for unit in units]
    folders = [folder / part.folder for part in scattered]
    stored = [index_on_ray.store_shard(place.shards, folders, shard) for shard in shards_in(place.shards)]
    assert [sum(counts) for counts in zip(*(part.documents for part in stored), strict=True)] == [*expected.documents]
    assert [sum(counts) for counts in zip(*(part.queries for part in stored), strict=True)] == [*expected.queries]
    assert _content(place) == _content(local)


def test_a_worker_of_retrieve_answers_as_one_process_does(place, write_jsonl):
    index(place, [write_jsonl(tiny_corpus())], shards=_SHARDS)
    with place.open_store() as store:
        queries = [*store.queries(), Query(query_id="q", user_id="nobody", text="t")]
        expected = list(retrieve(store, queries, RetrievalSettings(retriever="random"), seed=3))
    worker = retrieve_on_ray.Answerer(place.folder, RetrievalSettings(retriever="random"), None, 3)

    for part in (slice(None), slice(3, 9)):
        answered = msgspec.json.decode(worker.answer(msgspec.json.encode(queries[part])), type=retrieve_on_ray.Answered)
        assert (answered.records, answered.failure) == (expected[part], None)
    assert worker.finish().without_history == 1


def test_a_worker_says_why_it_does_not_answer(tmp_path):
    worker = retrieve_on_ray.Answerer(tmp_path, RetrievalSettings(), None, 0)
    query = Query(query_id="q", user_id="u", text="t")
    answered = msgspec.json.decode(worker.answer(msgspec.json.encode([query])), type=retrieve_on_ray.Answered)

    assert answered.records == []
    assert isinstance(answered.failure.error, DataError)
    assert str(answered.failure.error).startswith(f"no index in {tmp_path}; run `prlm index")
    assert worker.finish() == (0, 0)


def test_without_ray_the_extra_is_named(place, write_jsonl, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    path = write_jsonl(tiny_corpus())

    with pytest.raises(MissingError, match=r"--engine ray needs Ray; pip install 'prlm\[ray\]'") as caught:
        _index_on_ray(place, [path], shards=2)
    assert caught.value.exit_code == 3
    index(place, [path], shards=2)
    with place.open_store() as store, pytest.raises(MissingError, match="--engine ray needs Ray"):
        list(_retrieve_on_ray(store, [Query(query_id="q", user_id="u", text="t")], RetrievalSettings()))


def test_offline_and_ray_exclude_each_other(place, write_jsonl):
    refuse_network()
    try:
        with pytest.raises(SettingsError, match="--engine ray and --offline"):
            _index_on_ray(place, [write_jsonl(tiny_corpus())], shards=2)
    finally:
        refuse_network(False)


@pytest.mark.parametrize("flags", [{}, {"shards": 1}, {"shared": True, "shards": 2}], ids=str)
def test_only_shards_are_written_by_ray(place, write_jsonl, flags):
    with pytest.raises(SettingsError, match="--engine ray writes to shards"):
        _index_on_ray(place, [write_jsonl(tiny_corpus())], **flags)
    assert not place.folder.exists()


def test_no_query_starts_no_ray(place, write_jsonl, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    index(place, [write_jsonl(tiny_corpus())], shards=2)
    with place.open_store() as store:
        assert list(_retrieve_on_ray(store, [], RetrievalSettings())) == []
        with pytest.raises(SettingsError, match="--where x"):
            list(_retrieve_on_ray(store, [], RetrievalSettings(where=["x"])))


def _run(*arguments, home, **environment):
    """The command line in a process of its own: exit code, stdout and stderr."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-m", "prlm_cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**inherited, "HOME": str(home), **environment},
    )
    return done.returncode, done.stdout, done.stderr


def _left_over():
    """Folders and processes of Ray clusters that `prlm` started."""
    found = subprocess.run(["ps", "-Ao", "args"], capture_output=True, text=True, check=True).stdout
    return {word for word in found.replace("=", " ").split() if word.startswith("/tmp/prlm-ray-")} | {
        str(folder) for folder in Path("/tmp").glob("prlm-ray-*")
    }


@pytest.mark.slow
def test_a_cluster_of_its_own_is_quiet_and_leaves_nothing(installed, place, local, tmp_path, write_jsonl):
    home = tmp_path / "home"
    home.mkdir()
    data = write_jsonl(tiny_corpus())
    before = _left_over()
    expected = [
        _run("index", data, "-w", local.folder, "--shards", 2, home=home),
        _run("retrieve", "-w", local.folder, home=home),
    ]

    assert [
        _run("index", data, "-w", place.folder, "--shards", 2, "--engine", "ray", home=home),
        _run("retrieve", "-w", place.folder, "--engine", "ray", home=home),
    ] == expected
    assert list(home.iterdir()) == []
    assert _left_over() <= before


@pytest.mark.slow
def test_a_running_cluster_is_used_and_left_running(ray, place, tmp_path, write_jsonl):
    index(place, [write_jsonl(tiny_corpus())], shards=2)
    token = {name: value for name, value in os.environ.items() if name.startswith("RAY_AUTH")}
    address = ray.get_runtime_context().gcs_address
    arguments = ("retrieve", "-w", place.folder)

    before = _left_over()
    assert _run(*arguments, "--engine", "ray", home=tmp_path, RAY_ADDRESS=address, **token) == _run(
        *arguments, home=tmp_path
    )
    assert _left_over() == before
    assert ray.get(ray.put(1)) == 1

    token["RAY_AUTH_TOKEN"] = "0" * 64
    code, stdout, stderr = _run(*arguments, "--engine", "ray", home=tmp_path, RAY_ADDRESS=address, **token)
    assert (code, stdout) == (3, "")
    assert stderr.splitlines()[-1].startswith(f"prlm: no Ray cluster at RAY_ADDRESS={address} (")


@pytest.mark.slow
@pytest.mark.parametrize("address", ["127.0.0.1:9", "ray://127.0.0.1:9", "nonsense"])
def test_a_cluster_that_does_not_answer_is_told(installed, place, tmp_path, write_jsonl, address):
    index(place, [write_jsonl(tiny_corpus())])
    code, stdout, stderr = _run("retrieve", "-w", place.folder, "--engine", "ray", home=tmp_path, RAY_ADDRESS=address)

    assert (code, stdout) == (3, "")
    assert stderr.startswith(f"prlm: no Ray cluster at RAY_ADDRESS={address} (") and stderr.count("\n") == 1
