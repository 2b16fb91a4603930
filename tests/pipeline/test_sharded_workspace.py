"""Every command works on a workspace of several shards as on one of a single file."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prlm_cli.core.records import Query
from prlm_cli.core.settings import RetrievalSettings
from prlm_cli.core.shards import shards_in
from prlm_cli.core.workspace import Workspace
from prlm_cli.pipeline.forget import forget
from prlm_cli.pipeline.index import index
from prlm_cli.pipeline.queries import stored_queries
from prlm_cli.pipeline.retrieve import retrieve, swapped_profile
from tests.conftest import contents, tiny_corpus
from tests.pipeline.small import Notes
from tests.retrievers.corpora import documents, interleaved, queries

_USERS = ["u", "v", "w", "x", "y"]


@st.composite
def _inputs(draw):
    """Documents of several users, interleaved, and queries of them and of somebody unknown."""
    histories = {user: draw(documents(user, max_size=5)) for user in _USERS}
    asked = [draw(queries(histories.get(user, []), user)) for user in [*_USERS, "nobody", "u"]]
    return draw(interleaved(histories)), asked


@settings(max_examples=8)
@given(inputs=_inputs(), count=st.integers(2, 4), k=st.integers(0, 6), window=st.sampled_from([1, 3, 100]))
def test_the_records_of_every_query_are_equal_to_the_byte(tmp_path_factory, ranking, inputs, count, k, window):
    folder = tmp_path_factory.mktemp("workspaces")
    found = []
    for shards in (1, count):
        notes = Notes()
        with Workspace(folder / str(shards)).open_store(create=True, shards=shards) as store:
            store.add(inputs[0])
            chosen = RetrievalSettings(k=k, **ranking)
            results = list(retrieve(store, inputs[1], chosen, seed=3, window=window, reporter=notes))
            found.append(([msgspec.json.encode(result) for result in results], notes.notes))
            if k and ranking["retriever"] != "none" and all(store.documents(user) for user in _USERS):
                asked = Query(query_id="q", user_id="u", text="parse")
                swapped = swapped_profile(store, asked, store.users(), chosen, seed=3)
                found[-1] += (msgspec.json.encode(swapped),)

    assert found[0] == found[1]


@pytest.mark.parametrize("split", ["train", "dev", "test"])
@pytest.mark.parametrize("with_queries", [True, False], ids=["stored", "made"])
def test_the_queries_of_a_split_are_the_same_shard_by_shard(tmp_path, write_jsonl, split, with_queries):
    path = write_jsonl(record for record in tiny_corpus() if with_queries or "doc_id" in record)
    found = []
    for shards in (1, 3):
        index(Workspace(tmp_path / str(shards)), [path], shards=shards)
        with Workspace(tmp_path / str(shards)).open_store() as store:
            found.append(list(stored_queries(store, split)))
            places = {user: n for n, user in enumerate(store.users())}

    assert found[0] and found[1] == sorted(found[0], key=lambda query: places[query.user_id])


def test_a_forgotten_user_is_in_no_byte_and_other_shards_are_not_touched(tmp_path, write_jsonl):
    place = Workspace(tmp_path / "ws")
    corpus = tiny_corpus()
    index(place, [write_jsonl(corpus)], shards=8)
    before = contents(place.shards)
    own = next(shard for shard in shards_in(place.shards) if shard.holds("ada")).name
    assert forget(place, user_id="ada").documents == 8

    changed = {name for name, digest in contents(place.shards).items() if digest != before[name]}
    assert changed == {f"{own}.sqlite"}
    raw = b"".join(path.read_bytes() for path in place.folder.rglob("*") if path.is_file())
    for record in corpus:
        assert (record["text"].encode() in raw) == (record["user_id"] != "ada")
    with place.open_store() as store:
        assert not store.has_user("ada")
        assert store.count() == {"users": 2, "documents": 16, "queries": 8}


@pytest.mark.parametrize(
    "command",
    [
        ["show", "--json"],
        ["show", "ada"],
        ["retrieve", "--user", "ada", "--text", "parsing trees", "--corpus", "shared"],
        ["eval", "--retrieval", "--json"],
        ["index", "--rebuild", "--language", "german"],
        ["forget", "--doc", "ada/d3", "--yes"],
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_a_command_says_the_same(prlm, tmp_path, write_jsonl, command):
    data, shared = write_jsonl(tiny_corpus()), write_jsonl([{"text": "parsing is shared"}], "shared.jsonl")
    results = []
    for shards in (1, 3):
        folder = tmp_path / str(shards) / "ws"
        assert prlm("index", data, "-w", folder, "--shards", shards).exit_code == 0
        assert prlm("index", shared, "-w", folder, "--corpus", "shared").exit_code == 0
        result = prlm(*command, "-w", folder)
        results.append((result.exit_code, result.stdout.replace(str(folder), ""), _timeless(result.stderr)))

    if command[0] == "show" and "--json" in command:  # several files are larger
        one, three = (json.loads(stdout) for _, stdout, _ in results)
        assert 0 < one.pop("size_bytes") < three.pop("size_bytes")
        assert one == three
        return
    assert results[0] == results[1]


def test_doctor_looks_into_every_shard(prlm, tmp_path, write_jsonl):
    place = Workspace(tmp_path / "ws")
    index(place, [write_jsonl(tiny_corpus())], shards=3)
    sound = json.loads(prlm("doctor", "--json", "-w", place.folder).stdout)
    (place.shards / "002-of-003.sqlite").write_bytes(b"not a database" * 99)
    damaged = json.loads(prlm("doctor", "--json", "-w", place.folder).stdout)

    details = [
        (check["status"], check["detail"]) for found in (sound, damaged) for check in found if check["name"] == "index"
    ]
    assert details[0] == ("ok", "3 users, 24 documents, 12 queries")
    assert details[1][0] == "fail" and "002-of-003.sqlite" in details[1][1]


def _timeless(text):
    return [line for line in text.splitlines() if " s" not in line]


@pytest.mark.parametrize(
    ("first", "then", "message"),
    [
        (["--shards", 3], ["--shards", 2], "is 3 shards, not 2; index into a new workspace, -w DIR"),
        ([], ["--shards", 2], "is one file, not 2; index into a new workspace, -w DIR"),
    ],
    ids=["shards", "file"],
)
def test_another_number_of_shards_is_refused_before_anything_is_read(prlm, tmp_path, write_jsonl, first, then, message):
    data = write_jsonl(tiny_corpus())
    assert prlm("index", data, "-w", tmp_path / "ws", *first).exit_code == 0
    before = contents(tmp_path / "ws")
    result = prlm("index", tmp_path / "no.jsonl", "-w", tmp_path / "ws", *then)

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"prlm: the index in {tmp_path / 'ws'} {message}\n"
    assert contents(tmp_path / "ws") == before


def test_the_same_input_twice_changes_nothing_and_needs_no_number(prlm, tmp_path, write_jsonl):
    data = write_jsonl(tiny_corpus())
    prlm("index", data, "-w", tmp_path / "ws", "--shards", 3)
    before = contents(tmp_path / "ws" / "index")
    result = prlm("index", data, "-w", tmp_path / "ws")

    assert "24 unchanged" in result.stderr
    assert contents(tmp_path / "ws" / "index") == before
