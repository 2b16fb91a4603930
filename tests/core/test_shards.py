from __future__ import annotations

import shutil
import sqlite3
import stat
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prlm_cli.core import schema
from prlm_cli.core.connection import Connection
from prlm_cli.core.errors import SettingsError, StorageError
from prlm_cli.core.partition import Shard, shard_of
from prlm_cli.core.records import Document, Query
from prlm_cli.core.shards import ShardedStore, make_shards, shards_in
from prlm_cli.core.store import Store

_FEW = settings(max_examples=25)
_USERS = [f"user {n}" for n in range(6)]
_DOCUMENTS = st.builds(
    Document,
    user_id=st.sampled_from(_USERS),
    doc_id=st.sampled_from("abc"),
    text=st.sampled_from(["parsing trees", "speech", "noise"]),
    date=st.none() | st.sampled_from(["2023", "2024-05"]),
    meta=st.sampled_from([{}, {"lang": "de"}]),
)
_QUERIES = st.builds(
    Query,
    query_id=st.sampled_from("pqr"),
    user_id=st.sampled_from(_USERS),
    text=st.sampled_from(["parsing", "speech"]),
    split=st.sampled_from([None, "train", "test"]),
    source_doc_id=st.none() | st.sampled_from("abc"),
)
_BLOCKS = st.lists(_DOCUMENTS | _QUERIES, max_size=12)
_ERASED = st.tuples(st.sampled_from(_USERS), st.none() | st.sampled_from("abc"))


@pytest.fixture
def folder(tmp_path):
    make_shards(tmp_path / "index", 4)
    return tmp_path / "index"


def _content(store):
    """All that can be read, whatever the order of users and queries."""
    users = sorted(store.users())
    by_id = sorted(store.queries(), key=lambda query: query.query_id)
    return [
        (store.count(), users, by_id, store.quick_check(), store.language, store.tokenizer),
        (sorted(store.sizes()), store.splits(), store.encoders()),
        [store.has_queries(split) for split in ("train", "dev", "test")],
        [(store.has_user(user), store.documents(user), store.documents(user, ["b", "a"])) for user in _USERS],
        [[entry[1:] for entry in store.history(user).entries] for user in _USERS],
        [store.history(user).doc_ids for user in _USERS],
        [sorted(map(str, store.meta(user).values())) for user in _USERS],
        [[*store.queries(user_id=user, split="test")] for user in _USERS],
    ]


@_FEW
@given(steps=st.lists(_BLOCKS | _ERASED, min_size=1, max_size=8), count=st.integers(1, 5))
def test_shards_hold_what_one_store_holds_after_any_additions_and_deletions(tmp_path_factory, steps, count):
    folder = tmp_path_factory.mktemp("shards")
    make_shards(folder / "index", count)
    with Store(folder / "index.sqlite", create=True) as one, ShardedStore(folder / "index", create=True) as many:
        for step in steps:
            if isinstance(step, tuple):
                assert many.erase(*step) == one.erase(*step)
            else:
                assert many.add(step) == one.add(step)
        assert _content(many) == _content(one)
        for user in _USERS:
            many.compact(user)
        expected = _content(one)
    with ShardedStore(folder / "index") as reader:
        assert _content(reader) == expected


@_FEW
@given(records=_BLOCKS, cuts=st.lists(st.integers(0, 12), max_size=3), count=st.integers(1, 4))
def test_what_is_stored_does_not_depend_on_how_the_input_is_cut(tmp_path_factory, records, cuts, count):
    folder = tmp_path_factory.mktemp("cuts")
    places = [0, *sorted(cuts), len(records)]
    blocks = [records[start:end] for start, end in pairwise(places)]
    for name, given_blocks in (("whole", [records]), ("cut", blocks)):
        make_shards(folder / name, count)
        with ShardedStore(folder / name, create=True) as store:
            for block in given_blocks:
                store.add(block)

    for shard in shards_in(folder / "whole"):
        dumps = []
        for name in ("whole", "cut"):
            with sqlite3.connect(shard.file_in(folder / name)) as db:
                dumps.append([line for line in db.iterdump() if not line.startswith('INSERT INTO "query"')])
                dumps[-1] += db.execute("SELECT query_id, uid, split, record FROM query ORDER BY qid").fetchall()
            db.close()
        assert dumps[0] == dumps[1]


def test_a_shard_depends_on_the_id_alone_and_users_are_spread():
    assert [shard_of(user, 4) for user in ("ada", "ben", "cem", "dora", "é", "")] == [3, 0, 1, 3, 3, 0]
    counts = [0] * 8
    for n in range(8000):
        counts[shard_of(f"user {n}", 8)] += 1
    assert min(counts) > 900 and max(counts) < 1100


def test_every_document_lies_in_its_users_shard_alone(folder):
    with ShardedStore(folder, create=True) as store:
        store.add_documents(Document(user_id=user, doc_id="d", text="t") for user in _USERS)
        assert store.users() == sorted(_USERS, key=lambda user: (shard_of(user, 4), _USERS.index(user)))

    for shard in shards_in(folder):
        with Store(shard.file_in(folder), shard=shard) as store:
            assert store.users() == [user for user in _USERS if shard.holds(user)]


def test_a_query_that_moves_to_another_user_leaves_its_old_shard(folder):
    one = _USERS[0]
    other = next(user for user in _USERS if shard_of(user, 4) != shard_of(one, 4))
    with ShardedStore(folder, create=True) as store:
        store.add_queries([Query(query_id="q", user_id=one, text="t")])
        moved = Query(query_id="q", user_id=other, text="t")

        assert store.add_queries([moved])._asdict() == {"added": 0, "updated": 1, "unchanged": 0}
        assert list(store.queries()) == list(store.queries(user_id=other)) == [moved]
        assert list(store.queries(user_id=one)) == []


def test_only_the_shards_that_are_needed_are_opened(folder):
    with ShardedStore(folder, create=True) as store:
        store.add_documents([Document(user_id=_USERS[0], doc_id="d", text="t")])
    for shard in shards_in(folder):
        if shard.number not in (0, shard_of(_USERS[0], 4)):  # the first says how texts are tokenised
            shard.file_in(folder).write_bytes(b"not a database" * 99)

    with ShardedStore(folder) as store:
        assert store.history(_USERS[0]).doc_ids == ["d"]
        with pytest.raises(StorageError, match="not a database"):
            store.count()


def test_a_snapshot_holds_in_each_shard_from_its_first_read_on(folder):
    with ShardedStore(folder, create=True) as writer, ShardedStore(folder) as reader:
        writer.add_documents(Document(user_id=user, doc_id="d", text="t") for user in _USERS)
        with reader.snapshot(), reader.snapshot():
            before = [reader.documents(user) for user in _USERS[:3]]
            writer.add_documents(Document(user_id=user, doc_id="e", text="t") for user in _USERS)
            assert [reader.documents(user) for user in _USERS[:3]] == before
        assert [len(reader.documents(user)) for user in _USERS] == [2] * 6


def test_snapshots_may_overlap(folder):
    with ShardedStore(folder, create=True) as writer, ShardedStore(folder) as reader:
        one, other = reader.snapshot(), reader.snapshot()
        with one:
            assert reader.users() == []
            other.__enter__()
        writer.add_documents(Document(user_id=user, doc_id="d", text="t") for user in _USERS)
        assert reader.users() == []
        other.__exit__(None, None, None)
        assert len(reader.users()) == len(_USERS)


def test_vectors_are_kept_with_their_users_document_only(folder):
    with ShardedStore(folder, create=True) as store:
        store.add_documents(Document(user_id=user, doc_id="d", text="t") for user in _USERS)
        rows = {user: store.history(user).entries[0].rid for user in _USERS}
        for user in _USERS:
            store.keep_vectors(user, "m", {rows[user]: user.encode(), 1 << 40: b"nobody's"})

        assert [store.vectors(user, "m") for user in _USERS] == [{rows[user]: user.encode()} for user in _USERS]
        assert store.vectors(_USERS[0], "other") == {}


def test_a_rebuild_reaches_every_shard_and_an_interrupted_one_is_noticed_and_completed(folder):
    with ShardedStore(folder, create=True) as store:
        store.add_documents(Document(user_id=user, doc_id="d", text="Häuser") for user in _USERS)
    first = shards_in(folder)[0]
    with Store(first.file_in(folder), create=True, shard=first) as shard:
        shard.rebuild("german")

    with (
        ShardedStore(folder) as store,
        pytest.raises(StorageError, match=r"is in english, other shards are in german; run `prlm index --rebuild`"),
    ):
        for user in _USERS:
            store.history(user)
    with ShardedStore(folder, create=True) as store:
        assert store.rebuild() == len(_USERS)
        assert store.language == "german"
        assert all(store.history(user).doc_ids == ["d"] for user in _USERS)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "002-of-004.sqlite").unlink(), r"002-of-004\.sqlite is missing; bring it back"),
        (
            lambda folder: shutil.copy(folder / "000-of-004.sqlite", folder / "000-of-005.sqlite"),
            "holds shards of 4 and shards of 5; put those of one index there",
        ),
        (lambda folder: [file.unlink() for file in folder.iterdir()], "holds no shards"),
        (
            lambda folder: shutil.copy(folder / "000-of-004.sqlite", folder / "001-of-004.sqlite"),
            r"001-of-004\.sqlite holds shard 000-of-004; put the files of an index back under their own names",
        ),
        (
            lambda folder: shutil.copy(folder.parent / "one.sqlite", folder / "003-of-004.sqlite"),
            r"003-of-004\.sqlite holds a whole index",
        ),
    ],
    ids=["missing", "of two indexes", "none", "exchanged", "a whole index"],
)
def test_shards_that_do_not_belong_together_are_a_storage_error(folder, damage, message):
    Store(folder.parent / "one.sqlite", create=True).__exit__()
    damage(folder)

    with pytest.raises(StorageError, match=message), ShardedStore(folder) as store:
        store.count()


def test_a_shard_is_no_index_by_itself(folder):
    with pytest.raises(StorageError, match=r"000-of-004\.sqlite holds shard 000-of-004"):
        Store(folder / "000-of-004.sqlite")


def test_new_shards_are_private_and_all_there_or_none(tmp_path, monkeypatch):
    made = []

    def break_at_the_third(*args):
        made.append(args)
        if len(made) == 3:
            raise OSError(28, "No space left on device")
        return create(*args)

    create = schema.create
    with monkeypatch.context() as patch:
        patch.setattr(schema, "create", break_at_the_third)
        with pytest.raises(StorageError, match="No space left on device"):
            make_shards(tmp_path / "index", 4)
    assert list(tmp_path.iterdir()) == []

    make_shards(tmp_path / "index", 4, "german")
    assert [entry.name for entry in tmp_path.iterdir()] == ["index"]
    assert shards_in(tmp_path / "index") == [Shard(number, 4) for number in range(4)]
    assert {stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "index").iterdir()} == {0o600}
    assert stat.S_IMODE((tmp_path / "index").stat().st_mode) == 0o700
    with ShardedStore(tmp_path / "index") as store:
        assert store.language == "german"


@pytest.mark.parametrize("count", [0, -1, 257])
def test_there_are_1_to_256_shards(tmp_path, count):
    with pytest.raises(SettingsError, match=f"{count} shards; an index has 1 to 256"):
        make_shards(tmp_path / "index", count)


@pytest.mark.slow
def test_all_256_shards_can_be_open_at_once(tmp_path):
    make_shards(tmp_path / "index", 256)
    with ShardedStore(tmp_path / "index", create=True) as store:
        store.add_documents(Document(user_id=f"{n}", doc_id="d", text="t") for n in range(2000))
        assert store.count() == {"users": 2000, "documents": 2000, "queries": 0}


def test_closing_it_closes_every_shard_and_leaves_nothing_beside_the_files(folder):
    names = sorted(file.name for file in folder.iterdir())
    with ShardedStore(folder) as store:
        store.count()

    assert sorted(file.name for file in folder.iterdir()) == names


def test_what_a_store_can_do_is_either_routed_or_made_of_what_is():
    public = {name for name in {**vars(Connection), **vars(Store)} if not name.startswith("_")}

    assert public - set(vars(ShardedStore)) == {"add_documents", "add_queries", "has_queries", "snapshot"}
