from __future__ import annotations

import json
import os
import shutil

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prlm_cli.core import jsonl
from prlm_cli.core.errors import DataError, StorageError
from prlm_cli.core.records import Query
from prlm_cli.core.settings import RetrievalSettings
from prlm_cli.core.workspace import Run, Workspace, write_text
from prlm_cli.pipeline.forget import find_document, forget, runs_trained_on
from prlm_cli.pipeline.index import index
from prlm_cli.pipeline.retrieve import retrieve
from prlm_cli.pipeline.training_set import user_hash
from tests.conftest import contents
from tests.pipeline.canaries import Corpus, full_workspace, holding, write
from tests.pipeline.small import Notes

_RECORD_FILES = {"retrieved.jsonl", "swapped.jsonl", "runs/reward-1/pairs.jsonl"}


def _completions(workspace):
    """The file of cached completions, within the workspace."""
    (path,) = workspace.cache.glob("completions-*.jsonl")
    return str(path.relative_to(workspace.folder))


@pytest.fixture(scope="module")
def _made(tmp_path_factory, tiny_model):
    import torch

    corpus = Corpus()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    workspace = full_workspace(tmp_path_factory.mktemp("full"), corpus, tiny_model)
    torch.set_num_threads(threads)
    return corpus, workspace.folder


@pytest.fixture
def corpus(_made):
    return _made[0]


@pytest.fixture
def full(_made, tmp_path):
    """A workspace with every kind of file."""
    return Workspace(shutil.copytree(_made[1], tmp_path / "workspace"))


@pytest.fixture
def ids(corpus):
    return corpus.user_ids


def _blobs(workspace, user_id):
    """The first bytes of all that was computed of a user's texts."""
    with workspace.open_store() as store:
        entries = [entry.hashes for entry in store.history(user_id).entries]
        return [blob[:64] for blob in (*entries, *store.vectors(user_id, "static;32").values())]


def _answers(workspace, but):
    """What all other users get: documents, vectors, and each query's records, as bytes."""
    with workspace.open_store() as store:
        users = [user_id for user_id in store.users() if user_id != but]
        found = [[store.documents(user_id), store.vectors(user_id, "static;32")] for user_id in users]
        for retriever in ("bm25", "recency", "random"):
            queries = [query for query in store.queries() if query.user_id != but]
            found.append(list(retrieve(store, queries, RetrievalSettings(retriever=retriever))))
    return msgspec.msgpack.encode(found)


def test_no_byte_of_a_user_is_left_in_any_kind_of_file(full, corpus, ids):
    mine, blobs = corpus.canaries[ids["a"]], _blobs(full, ids["a"])
    half_written, scratch = "runs/reward-1/.pairs.jsonl.x1y2z3", "cache/scratch-killed/input"
    record_files = {*_RECORD_FILES, _completions(full)}
    assert holding(full.folder, mine) == {"index.sqlite", "errors.jsonl", half_written, scratch, *record_files}
    weights = {name: found for name, found in contents(full.folder).items() if name.endswith("safetensors")}

    forgotten = forget(full, user_id=ids["a"])

    assert holding(full.folder, mine) == set()
    assert not any(blob in full.index.read_bytes() for blob in blobs) and len(blobs) == 14
    assert (forgotten.documents, forgotten.queries) == (7, 4)
    assert set(forgotten.rewritten) == record_files
    assert set(forgotten.removed) == {
        "errors.jsonl",
        half_written,
        scratch,
        "runs/policy-1/checkpoints/checkpoint-3",
    }
    assert not any((full.folder / name).exists() for name in forgotten.removed)
    assert not list(full.folder.glob(".forget*"))
    after = contents(full.folder)
    assert all(after.get(name, found) == found for name, found in weights.items())


def test_what_others_have_is_left_as_it_was(full, corpus, ids):
    answers = _answers(full, but=ids["a"])
    names = {*_RECORD_FILES, _completions(full)}
    lines = {name: (full.folder / name).read_bytes().splitlines() for name in names}

    forget(full, user_id=ids["a"])

    assert _answers(full, but=ids["a"]) == answers
    for name, before in lines.items():
        kept = [line for line in before if ids["a"].encode() not in line]
        assert (full.folder / name).read_bytes().splitlines() == kept
        assert 0 < len(kept) < len(before)


def test_a_document_goes_alone_with_what_was_made_from_it(full, corpus, ids):
    user_id = ids["a"]
    source = {"query_id": "made", "user_id": user_id, "text": "Again.", "source_doc_id": corpus.last}
    index(full, [write(full.folder.parent / "made.jsonl", [source])])
    mine = corpus.of_document[user_id, corpus.last]
    assert _RECORD_FILES - {"swapped.jsonl"} < holding(full.folder, mine)
    answers = _answers(full, but=user_id)

    forgotten = forget(full, user_id=user_id, doc_id=corpus.last)

    assert (forgotten.documents, forgotten.queries) == (1, 1)
    assert holding(full.folder, mine) == set()
    assert _answers(full, but=user_id) == answers
    with full.open_store() as store:
        assert not store.documents(user_id, [corpus.last])
        assert (len(store.documents(user_id)), len(list(store.queries(user_id=user_id)))) == (6, 4)
    for name in ("retrieved.jsonl", _completions(full)):
        for shown in map(json.loads, (full.folder / name).read_text().splitlines()):
            owner = shown.get("profile_user_id") or shown["user_id"]
            assert owner != user_id or corpus.last not in [record["doc_id"] for record in shown.get("profile", [])]


@pytest.mark.parametrize(("name", "runs"), [("a", 3), ("b", 3), ("d", 0)])
def test_the_runs_that_were_trained_on_a_user_are_named(full, ids, name, runs):
    assert len(forget(full, user_id=ids[name]).runs) == runs


def test_a_run_made_with_such_a_run_is_named_and_so_is_one_that_does_not_say(tmp_path):
    workspace = Workspace(tmp_path)
    own, other = [user_hash("ada")], [user_hash("ben")]
    for name, config, facts in (
        ("trained", "", {"trained_on": own}),
        ("went-on", '[policy]\nstart_from = "trained"\n', {"trained_on": other}),
        ("judged", '[policy]\nreward_model = "went-on"\n', {"trained_on": other}),
        ("read", '[pairs]\npolicy = "judged"\n', {"trained_on": other}),
        ("drawn", '[warm_start]\npolicy = "read"\n', {"trained_on": other}),
        ("apart", '[policy]\nreward_model = "none"\n', {"trained_on": other}),
        ("unreadable-config", "[policy", {"trained_on": other}),
        ("silent", "", {}),
        ("damaged", "", {"trained_on": other}),
    ):
        Run(workspace.runs_folder / name).start("policy", config, **facts)
    write_text(workspace.runs_folder / "damaged" / "state.json", "{")

    assert runs_trained_on(workspace, "ada") == ["damaged", "drawn", "judged", "read", "silent", "trained", "went-on"]


def test_a_dry_run_says_the_same_and_changes_no_file(full, ids):
    before = contents(full.folder)
    expected = forget(full, user_id=ids["a"], dry_run=True)

    assert contents(full.folder) == before
    assert expected[:5] == forget(full, user_id=ids["a"])[:5]


def test_nobody_goes_on_while_a_run_that_learns_from_the_user_is_being_trained(full, ids):
    before = contents(full.folder)
    with full.write_lock("reward-1"), pytest.raises(StorageError, match="'reward-1' is being trained on it: not yet"):
        forget(full, user_id=ids["a"])
    assert contents(full.folder).items() >= {k: v for k, v in before.items() if not k.endswith(".lock")}.items()

    with full.write_lock("reward-1"):
        forget(full, user_id=ids["d"])


def test_completions_go_that_were_written_for_a_user_or_from_a_users_records(full, ids):
    path = full.folder / _completions(full)
    before = [json.loads(line) for line in path.read_text().splitlines()]
    owners = {(line["user_id"], line.get("profile_user_id")) for line in before}
    assert any(ids["b"] == other != own for own, other in owners)

    forget(full, user_id=ids["b"])

    after = [json.loads(line) for line in path.read_text().splitlines()]
    assert after == [line for line in before if ids["b"] not in (line["user_id"], line.get("profile_user_id"))]
    assert 0 < len(after) < len(before)


@pytest.mark.parametrize("doc_id", [None, "d2"])
@pytest.mark.parametrize("user_id", ["ada", "b-telling-id"])
def test_half_a_line_of_a_completion_goes_with_its_user(tmp_path, user_id, doc_id):
    workspace = Workspace(tmp_path / "workspace")
    document = {"user_id": user_id, "doc_id": "d2", "text": "Trees.", "title": "On Trees"}
    index(workspace, [write(tmp_path / "data.jsonl", [document, {**document, "user_id": "ben", "text": "Other."}])])
    workspace.cache.mkdir()
    path = workspace.cache / "completions-x.jsonl"
    whole = '{"user_id":"ben","key":"1","query_id":"q","completion":"On","tokens":1,"truncated":true}\n'
    path.write_text(whole + '{"user_id":"%s","key":"2","query_id":"q2","completion":"On Tr' % user_id)  # noqa: UP031

    forget(workspace, user_id=user_id, doc_id=doc_id)

    assert path.read_text() == whole


def test_nobody_goes_on_while_completions_are_being_written(full, ids):
    name = _completions(full)
    lock = (full.folder / name).stem

    with full.write_lock(lock), pytest.raises(StorageError, match=f"{name} is being written: not yet erased; end that"):
        forget(full, user_id=ids["a"])

    assert forget(full, user_id=ids["a"]).documents == 7


def test_a_user_whom_only_a_record_file_knows_can_be_forgotten(place):
    workspace, _ = place
    jsonl.write(workspace.folder / "asked.jsonl", [Query(query_id="q", user_id="guest-1", text="Anybody there?")])

    assert forget(workspace, user_id="guest-1").rewritten == ["asked.jsonl"]
    assert (workspace.folder / "asked.jsonl").read_bytes() == b""


@pytest.mark.parametrize("doc_id", [None, "d0"])
def test_nobody_is_an_error_that_leaves_everything(place, doc_id):
    workspace, _ = place
    before = contents(workspace.folder)

    with pytest.raises(DataError, match=r"no (document 'd0' of )?user 'nobody' in the index"):
        forget(workspace, user_id="nobody", doc_id=doc_id)
    assert {name: found for name, found in contents(workspace.folder).items() if "lock" not in name} == {
        name: found for name, found in before.items() if "lock" not in name
    }


def test_without_an_index_nothing_is_made(tmp_path):
    with pytest.raises(DataError, match="no index in"):
        forget(Workspace(tmp_path / "ws"), user_id="u")
    assert not (tmp_path / "ws").exists()


def test_a_link_out_of_the_workspace_is_not_followed(place, tmp_path):
    workspace, corpus = place
    outside = write(tmp_path / "outside.jsonl", corpus.records)
    before = outside.read_bytes()
    (workspace.folder / "link.jsonl").symlink_to(outside)
    (workspace.folder / "cache").mkdir(exist_ok=True)
    (workspace.folder / "cache" / "folder").symlink_to(tmp_path, target_is_directory=True)

    forget(workspace, user_id=corpus.user_ids["a"])

    assert outside.read_bytes() == before


@pytest.mark.skipif(os.geteuid() == 0, reason="NOT RUN: everything may be read by root")
def test_a_file_that_cannot_be_read_is_named(place):
    workspace, corpus = place
    secret = workspace.folder / "secret.bin"
    secret.write_bytes(b"x")
    secret.chmod(0)

    with pytest.raises(StorageError, match=r"secret\.bin: Permission denied"):
        forget(workspace, user_id=corpus.user_ids["a"])


def test_it_is_said_that_the_index_is_written_anew(place):
    workspace, corpus = place
    reporter = Notes()

    forget(workspace, user_id=corpus.user_ids["a"], reporter=reporter)

    assert reporter.notes == ["writing the index anew"]


def test_a_document_is_found_by_user_and_id_though_both_may_hold_slashes(tmp_path):
    ids = [("a", "b"), ("a/b", "c"), ("a", "b/c/d"), ("x/", "/y")]
    records = [{"user_id": user_id, "doc_id": doc_id, "text": "t"} for user_id, doc_id in ids]
    workspace = Workspace(tmp_path / "ws")
    index(workspace, [write(tmp_path / "data.jsonl", records)])

    for user_id, doc_id in ids:
        assert find_document(workspace, f"{user_id}/{doc_id}") == (user_id, doc_id)
    for name in ("a/x", "ab", "a/", "/b", ""):
        with pytest.raises(DataError, match=r"no document '.*' in the index; name it USER/DOCUMENT"):
            find_document(workspace, name)
    index(workspace, [write(tmp_path / "more.jsonl", [{"user_id": "a/b", "doc_id": "c/d", "text": "t"}])])
    with pytest.raises(DataError, match="'a/b/c/d' names 2 documents; name the user apart, with --user"):
        find_document(workspace, "a/b/c/d")


_COMMANDS = st.one_of(
    st.tuples(
        st.just("put"), st.sampled_from("ab"), st.sampled_from("123"), st.sampled_from(["tree", "noise", "tree bank"])
    ),
    st.tuples(st.just("forget document"), st.sampled_from("ab"), st.sampled_from("123")),
    st.tuples(st.just("forget user"), st.sampled_from("ab")),
)


def _state(workspace):
    """All that can be asked of an index."""
    with workspace.open_store() as store:
        found = []
        for user_id in "ab":
            history = store.history(user_id)
            query = Query(query_id="q", user_id=user_id, text="a tree and some noise")
            profiles = [
                list(retrieve(store, [query], RetrievalSettings(retriever=name, k=3))) for name in ("bm25", "recency")
            ]
            entries = [entry[1:] for entry in history.entries]
            found.append((store.documents(user_id), entries, history.doc_ids if entries else [], profiles))
        return found, {user_id: sizes for user_id, *sizes in store.sizes() if any(sizes)}


@settings(max_examples=25)
@given(commands=st.lists(_COMMANDS, min_size=1, max_size=8))
def test_any_interleaving_of_add_update_and_forget_equals_a_rebuild(tmp_path_factory, commands):
    folder = tmp_path_factory.mktemp("commands")
    workspace = Workspace(folder / "ws")
    expected: dict[tuple[str, str], dict[str, str]] = {}
    workspace.open_store(create=True).__exit__()
    for command, user_id, *rest in commands:
        if command == "put":
            expected[user_id, rest[0]] = {"user_id": user_id, "doc_id": rest[0], "text": rest[1]}
            index(workspace, [write(folder / "data.jsonl", [expected[user_id, rest[0]]])])
            continue
        gone = [key for key in expected if key[0] == user_id and (not rest or key[1] == rest[0])]
        try:
            assert forget(workspace, user_id=user_id, doc_id=rest[0] if rest else None).documents == len(gone)
        except DataError:
            assert not gone
        for key in gone:
            del expected[key]
    rebuilt = Workspace(folder / "rebuilt")
    rebuilt.open_store(create=True).__exit__()
    if expected:
        index(rebuilt, [write(folder / "data.jsonl", list(expected.values()))])

    assert _state(workspace) == _state(rebuilt)
