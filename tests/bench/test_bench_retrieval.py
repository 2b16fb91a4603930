"""The parts of the benchmark of retrieval: a figure is worth what its corpus, its clock and its oracle are worth."""

from __future__ import annotations

import json
import shutil
import sqlite3
from importlib.resources import files
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prlm_cli.core import jsonl
from prlm_cli.core.dates import parse_period
from prlm_cli.core.records import Document, ProfileDocument, Query
from prlm_cli.core.workspace import Workspace
from prlm_cli.pipeline.index import index
from prlm_cli.pipeline.retrieve import retrieve
from tests.bench import retrieval
from tests.bench.corpora import ASKED_ON, Corpus, power_law, read_texts
from tests.bench.figures import Figures, interleaved, ratio, timed
from tests.bench.processes import prlm, python, run
from tests.bench.retrieval_parts.alternatives import SharedIndex, bm25s_per_query, rank_bm25_per_query
from tests.bench.retrieval_parts.exactness import Oracle, agreement
from tests.bench.retrieval_parts.forgetting import files_with
from tests.bench.retrieval_parts.kills import content_hash, documents_after_kill, is_completed, kills
from tests.bench.retrieval_parts.stores import SCALES, SETTINGS, K, Scale, text_of

_DEMO = files("prlm_cli.demo") / "corpus.jsonl"
_SIZES = [5, 12, 1, 30, 8]
_TINY = Scale(
    documents=(200, 300, 400),
    many=(300, 10),
    asked=5,
    pairs=40,
    histories=(1, 12),
    kills=1,
    killed_documents=100,
    rounds=1,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder as `--data` wants it: the demo's notes, the last of each person as a query."""
    folder = tmp_path_factory.mktemp("data")
    notes = list(jsonl.read(_DEMO, Document))
    last = {note.user_id: note for note in notes}
    queries = [Query(query_id=user, user_id=user, text=note.text, date=note.date) for user, note in last.items()]
    jsonl.write(folder / "profiles.jsonl", [note for note in notes if note is not last[note.user_id]])
    jsonl.write(folder / "queries.test.jsonl", queries)
    return folder


@pytest.fixture(scope="module")
def corpus(data):
    return Corpus(read_texts(data / "profiles.jsonl"), _SIZES)


@pytest.fixture
def indexed(corpus, tmp_path):
    """The corpus as a file, and a workspace with its index."""
    path = tmp_path / "documents.jsonl"
    corpus.write(path)
    workspace = Workspace(tmp_path / "indexed")
    index(workspace, [path])
    return path, workspace


@settings(max_examples=40)
@given(st.integers(1, 300), st.integers(0, 300), st.integers(1, 6))
def test_a_power_law_gives_each_user_a_history_within_the_limits_and_all_documents(users, more, low):
    documents = low * users + min(more, 49 * low * users)
    sizes = power_law(documents, users, low=low, high=50 * low)

    assert (len(sizes), sum(sizes)) == (users, documents)
    assert sizes == sorted(sizes) and low <= sizes[0] and sizes[-1] <= 50 * low


def test_a_power_law_has_many_short_histories_and_few_long_ones():
    sizes = power_law(20_000, 1_000, low=5)

    assert sizes[500] < 20 and sizes[-1] > 500


@pytest.mark.parametrize("documents", [9, 301])
def test_a_power_law_refuses_what_cannot_be(documents):
    with pytest.raises(ValueError, match="10 users cannot have"):
        power_law(documents, 10, low=1, high=30)


def test_a_corpus_is_a_function_of_its_seed(data, corpus):
    texts = read_texts(data / "profiles.jsonl")

    assert list(Corpus(texts, _SIZES).documents(3)) == list(corpus.documents(3))
    assert list(Corpus(texts, _SIZES, seed=1).documents(3)) != list(corpus.documents(3))


def test_the_file_of_a_corpus_holds_the_documents_of_all_users_in_order(corpus, tmp_path):
    corpus.write(tmp_path / "documents.jsonl")
    expected = [document for user in range(len(_SIZES)) for document in corpus.documents(user)]

    assert list(jsonl.read(tmp_path / "documents.jsonl", Document)) == expected
    assert len(expected) == len(corpus) == sum(_SIZES)


def test_no_text_stands_twice_and_queries_are_later_than_all_documents(corpus):
    documents = [document for user in range(len(_SIZES)) for document in corpus.documents(user)]
    queries = [query for user in range(len(_SIZES)) for query in corpus.queries(user, 3)]
    texts = [record.text for record in [*documents, *queries]]

    assert len(set(texts)) == len(texts)
    assert all(parse_period(d.date).end < parse_period(ASKED_ON).start for d in documents)
    assert all(one.date <= other.date for one, other in pairwise(corpus.documents(3)))
    assert {query.date for query in queries} == {ASKED_ON}


def test_what_only_one_user_has_begins_with_the_id_of_that_user(corpus):
    for user in range(len(_SIZES)):
        own = corpus.user_id(user)
        assert all(own in document.text for document in corpus.documents(user))
        assert not any(own in document.text for other in range(user) for document in corpus.documents(other))


def test_askers_are_of_all_sizes(corpus):
    assert sorted(corpus.askers(5)) == [0, 1, 2, 3, 4]
    assert sorted(corpus.askers(99, at_least=8)) == [1, 3, 4]
    assert corpus.askers(1) == [4]  # the median history


def test_measures_take_turns():
    calls: list[str] = []
    taken = interleaved(2, {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")})

    assert calls == ["a", "b", "a", "b"]
    assert taken == {"a": [None, None], "b": [None, None]}


def test_a_ratio_is_the_median_of_the_rounds_own_ratios():
    assert ratio([10, 30, 8], [1, 10, 4]) == 3


def test_time_is_measured_in_seconds():
    assert 0 <= timed(lambda: None)() < 1


def test_figures_come_as_json_and_as_tables():
    figures = Figures()
    for name, value in {"aimed": 3.14159, "fast_10k": 12345.6, "fast_1m": 2, "other": 0.5}.items():
        figures.add(name, value, "x")

    assert json.loads(figures.as_json())["figures"][0] == {"name": "aimed", "value": 3.14159, "unit": "x"}
    aimed, by_size, others = figures.as_tables({"aimed": "≥ 3", "missing": "1"}, ["10k", "1m"]).split("\n\n")
    assert aimed.splitlines()[2:] == ["| aimed | 3.14 | x | ≥ 3 |"]
    assert by_size.splitlines()[2:] == ["| fast | x | 12346 | 2 |"]
    assert others.splitlines()[2:] == ["| other | 0.5 | x |"]


def test_a_process_is_measured_apart_from_the_one_that_starts_it():
    large = bytearray(200 << 20)
    usage = run(python("-c", "print('done')"))

    assert (usage.stdout, len(large)) == ("done\n", 200 << 20)
    assert usage.cpu > 0 and usage.wall > 0 and 0 < usage.peak_mb < 60


def test_a_process_that_fails_is_not_a_measurement(tmp_path):
    with pytest.raises(RuntimeError, match="no index in"):
        run(prlm("retrieve", "-w", tmp_path, "--user", "u", "--text", "t"))


def test_what_we_retrieve_agrees_with_the_oracle(corpus, indexed):
    _, workspace = indexed
    queries = [query for user in range(len(_SIZES)) for query in corpus.queries(user, 4)]
    with workspace.open_store() as store:
        found = list(retrieve(store, queries, SETTINGS))
    for retrieved in found:
        documents = list(corpus.documents(int(retrieved.user_id[1:])))
        agreed = agreement(retrieved.profile, Oracle(documents).scores(retrieved.text), K)

        assert agreed.is_same and agreed.difference < 1e-12
    assert sum(retrieved.profile[0].score > 0 for retrieved in found) > len(found) / 2


_SCORES = {"a": 3.0, "b": 2.0, "c": 2.0, "d": 1.0}


def _profile(*shown: tuple[str, float]) -> list[ProfileDocument]:
    dates = {"b": "2023", "c": "2024"}
    return [ProfileDocument(doc_id=doc_id, text="", date=dates.get(doc_id), score=score) for doc_id, score in shown]


@pytest.mark.parametrize(
    ("shown", "is_same", "difference"),
    [
        ([("a", 3.0), ("c", 2.0), ("b", 2.0)], True, 0),
        ([("a", 3.0), ("b", 2.0), ("c", 2.0)], False, 0),
        ([("c", 2.0), ("a", 3.0), ("b", 2.0)], False, 0),
        ([("a", 3.0), ("c", 2.0), ("d", 1.0)], False, 0),
        ([("a", 3.5), ("c", 2.0), ("b", 2.0)], True, 0.5),
        ([("a", 3.0), ("c", 2.0)], False, float("inf")),
        ([("a", 3.0), ("a", 3.0), ("c", 2.0)], False, float("inf")),
    ],
    ids=["same", "tie out of order", "order", "wrong document", "other score", "one missing", "one twice"],
)
def test_an_agreement_sees_every_difference_but_a_tie(shown, is_same, difference):
    assert agreement(_profile(*shown), _SCORES, 3) == (is_same, difference)


def test_bm25s_per_query_finds_what_we_find(corpus, indexed):
    _, workspace = indexed
    documents = [text_of(document) for document in corpus.documents(3)]
    (query,) = corpus.queries(3)
    with workspace.open_store() as store:
        (found,) = retrieve(store, [query], SETTINGS)

    assert set(bm25s_per_query(documents, query.text, K)) == {f"{d.title}\n{d.text}" for d in found.profile}
    assert bm25s_per_query(documents[:2], query.text, K)[0] in documents[:2]


def test_rank_bm25_finds_the_text_that_is_asked_for(corpus):
    pytest.importorskip("rank_bm25")
    documents = [text_of(document) for document in corpus.documents(3)]

    assert rank_bm25_per_query(documents, documents[7], 2)[0] == documents[7]


@pytest.mark.slow  # numba compiles for many seconds
def test_the_shared_index_finds_the_users_own_texts(corpus):
    pytest.importorskip("numba")
    own = [text_of(document) for document in corpus.documents(3)]
    others = [text_of(document) for document in corpus.documents(1)]
    (query,) = corpus.queries(3)
    (masked,) = SharedIndex([*others, *own]).best_of_ranges([(range(12, 42), query.text)], K)
    (alone,) = SharedIndex(own).best([query.text], K)

    assert set(masked) <= set(own)
    assert set(alone) == set(bm25s_per_query(own, query.text, K))


def test_the_content_hash_does_not_depend_on_the_order_of_ingest(indexed, tmp_path):
    path, workspace = indexed
    lines = path.read_text().splitlines(keepends=True)
    halves = [tmp_path / "second.jsonl", tmp_path / "first.jsonl"]
    for half, part in zip(halves, (lines[17:], lines[:17]), strict=True):
        half.write_text("".join(part))
    index(Workspace(tmp_path / "halves"), halves)

    assert content_hash(Workspace(tmp_path / "halves").index) == content_hash(workspace.index)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE doc SET text = text || '.' WHERE doc_id = 'd2'",
        "UPDATE doc SET date = NULL WHERE doc_id = 'd2'",
        "UPDATE term SET hashes = x'00' WHERE rid = (SELECT max(rid) FROM term)",
        "DELETE FROM doc WHERE rid = (SELECT max(rid) FROM doc)",
        "DELETE FROM term WHERE rid = (SELECT max(rid) FROM term)",
        "DELETE FROM user WHERE uid = (SELECT max(uid) FROM user)",
        "INSERT INTO doc(rid, uid, doc_id, text) VALUES (1, 1, 'again', 'x')",
    ],
)
def test_the_content_hash_sees_what_is_lost_changed_or_twice(indexed, change):
    _, workspace = indexed
    before = content_hash(workspace.index)
    with sqlite3.connect(workspace.index) as db:
        db.execute(change)
    db.close()

    assert content_hash(workspace.index) != before


def test_an_ingest_survives_a_kill(corpus, indexed, tmp_path):
    (kill,) = kills(indexed[0], tmp_path / "kills", 1)

    assert kill.survived and 0 <= kill.documents <= len(corpus) and kill.after > 0


def test_a_store_that_is_damaged_or_other_than_expected_has_not_survived(corpus, indexed, tmp_path):
    path, workspace = indexed
    assert documents_after_kill(Workspace(tmp_path / "nothing")) == 0
    assert documents_after_kill(workspace) == len(corpus)
    assert not is_completed(path, workspace, "another hash")

    with workspace.index.open("r+b") as file:
        file.truncate(workspace.index.stat().st_size // 2)
    assert documents_after_kill(workspace) is None


def test_traces_of_a_user_are_found_in_any_file(corpus, indexed, tmp_path):
    _, workspace = indexed
    (workspace.folder / "cache").mkdir()
    shutil.copy(workspace.index, workspace.folder / "cache" / "copy")

    assert len(files_with(workspace.folder, corpus.user_id(3))) == 2
    assert files_with(workspace.folder, corpus.user_id(99)) == []


def _figures(monkeypatch, capsys, data, *arguments: str) -> dict[str, float]:
    monkeypatch.setitem(SCALES, "small", _TINY)
    retrieval.main(["--json", "--scale", "small", "--data", str(data), *arguments])
    found = json.loads(capsys.readouterr().out)["figures"]
    assert all(set(figure) == {"name", "value", "unit"} for figure in found)
    return {figure["name"]: figure["value"] for figure in found}


def test_with_json_stdout_is_json_alone(monkeypatch, capsys, data):
    found = _figures(monkeypatch, capsys, data, "--only", "exact")

    assert found["exact_same_order_share"] == 1 and found["exact_max_score_difference"] < 1e-9
    assert found["exact_pairs"] == _TINY.pairs


@pytest.mark.slow
def test_all_figures_that_were_promised_are_there(monkeypatch, capsys, data):
    pytest.importorskip("numba")
    pytest.importorskip("rank_bm25")
    found = _figures(monkeypatch, capsys, data)

    promised = {name for name in retrieval.AIMS if not name.startswith("forget")}
    assert promised <= set(found) and found["kills_survived_share"] == 1
    assert all(value >= 0 for value in found.values())


def test_a_folder_without_documents_is_refused(capsys, tmp_path):
    with pytest.raises(SystemExit):
        retrieval.main(["--data", str(tmp_path)])
    assert "no profiles.jsonl in" in capsys.readouterr().err


def test_records_are_those_of_the_program(corpus):
    document = next(corpus.documents(0))

    assert msgspec.json.decode(msgspec.json.encode(document), type=Document) == document
