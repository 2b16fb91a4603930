from __future__ import annotations

import tracemalloc
from statistics import fmean

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from prlm_cli.core import jsonl
from prlm_cli.core.errors import DataError, SettingsError
from prlm_cli.core.records import Document, ProfileDocument, Query, Retrieved
from prlm_cli.core.settings import RetrievalSettings
from prlm_cli.core.store import Store
from prlm_cli.core.workspace import Workspace
from prlm_cli.metrics.intervals import mean_interval, paired_interval
from prlm_cli.pipeline import retrieval_quality as module
from prlm_cli.pipeline.index import index
from prlm_cli.pipeline.queries import stored_queries
from prlm_cli.pipeline.retrieval_quality import MEASURES, overlap, read_queries, retrieval_quality
from prlm_cli.pipeline.retrieve import retrieve
from tests.pipeline.small import Notes

ORACLE = RougeScorer(["rouge1", "rougeL"], use_stemmer=False)
TITLES = st.lists(st.sampled_from(["fix", "Fix", "net/ixgbe:", "memory", "leak", "日本"]), max_size=6).map(" ".join)
BM25 = RetrievalSettings(k=3)


def shown(*titles, **fields):
    """A profile of these titles."""
    return [ProfileDocument(doc_id=f"d{n}", text="a text", title=title, **fields) for n, title in enumerate(titles)]


def record(query_id="q", user_id="u", profile=(), retriever="mine", target="fix a leak", **fields):
    return Retrieved(
        query_id=query_id,
        user_id=user_id,
        text="t",
        target=target,
        profile=list(profile),
        retriever=retriever,
        **fields,
    )


def means(quality, retriever):
    """The means of a retriever's row, by measure."""
    (row,) = (row for row in quality.retrievers if row.retriever == retriever)
    return {measure: getattr(row.overlap, measure).mean for measure in MEASURES}


def by_retriever(quality):
    """The single queries' records, by retriever."""
    found = {row.retriever: [] for row in quality.retrievers}
    for line in quality.overlaps.records():
        found[line.retriever].append(line)
    return found


@pytest.fixture
def store(workspace):
    with workspace.open_store() as store:
        yield store


@pytest.fixture
def three_users(tmp_path):
    """A store of users who always title alike: a, then b, then c, a month apart."""
    with Store(tmp_path / "three.sqlite", create=True) as store:
        store.add_documents(
            Document(user_id=user, doc_id=f"{user}{n}", text=f"text {n}", title=f"{user} title", date=f"2023-0{month}")
            for month, user in enumerate("abc", start=1)
            for n in range(month)
        )
        yield store


def asked(*users, date="2024", **fields):
    return [
        Query(query_id=f"q{n}", user_id=user, text="text", target=f"{user} title", date=date, **fields)
        for n, user in enumerate(users)
    ]


def test_overlap_of_hand_worked_titles():
    # Against "fix a leak": all 3 words in order; 1 of 1 and 1 of 3; 2 of 2 and 2 of 3, but only one of them in order.
    found = overlap(shown("Fix a leak", "leak", "leak fix"), "fix a leak")

    assert found.best_rouge1 == found.best_rougeL == 1.0
    assert found.mean_rouge1 == pytest.approx((1 + 2 / 4 + 4 / 5) / 3)
    assert found.mean_rougeL == pytest.approx((1 + 2 / 4 + 2 / 5) / 3)


def test_overlap_takes_the_text_of_a_record_without_a_title():
    untitled = [ProfileDocument(doc_id="d", text="fix a leak", title=title) for title in (None, "")]

    assert overlap(untitled, "fix a leak") == module.Measures(1.0, 1.0, 1.0, 1.0)


def test_overlap_of_no_records_is_zero():
    assert overlap([], "fix a leak") == module.Measures(0.0, 0.0, 0.0, 0.0)


@given(st.lists(TITLES.filter(bool), min_size=1, max_size=5), TITLES)
def test_overlap_is_the_best_and_the_mean_of_the_reference(titles, target):
    scores = [ORACLE.score(target, title) for title in titles]
    found = overlap(shown(*titles), target)

    for name in ("rouge1", "rougeL"):
        values = [score[name].fmeasure for score in scores]
        assert getattr(found, f"best_{name}") == pytest.approx(max(values), abs=1e-9)
        assert getattr(found, f"mean_{name}") == pytest.approx(fmean(values), abs=1e-9)


def test_the_chosen_retriever_is_held_against_recency_random_and_a_wrong_user(store):
    quality = retrieval_quality(store, stored_queries(store, "test"), BM25)

    assert [row.retriever for row in quality.retrievers] == ["bm25", "recency", "random", "wrong user"]
    assert (quality.n, quality.users, quality.k, quality.without_target) == (3, 3, 3, 0)
    assert [row.n for row in quality.retrievers] == [3, 3, 3, 3]


@pytest.mark.parametrize("retriever", ["bm25", "recency", "random"])
def test_a_row_is_what_that_retriever_retrieves(store, retriever):
    queries = list(stored_queries(store, "test"))
    expected = {measure: [] for measure in MEASURES}
    for found in retrieve(store, queries, RetrievalSettings(k=3, retriever=retriever), seed=5):
        scores = [ORACLE.score(found.target, document.title) for document in found.profile]
        for name in ("rouge1", "rougeL"):
            values = [score[name].fmeasure for score in scores]
            expected[f"best_{name}"].append(max(values))
            expected[f"mean_{name}"].append(fmean(values))

    quality = retrieval_quality(store, queries, BM25, seed=5)

    assert means(quality, retriever) == pytest.approx({measure: fmean(of) for measure, of in expected.items()})


def test_a_difference_is_that_of_the_chosen_retriever_and_the_row_paired_by_query(store):
    quality = retrieval_quality(store, stored_queries(store, "train"), BM25, bootstrap=200, seed=3)
    lines = by_retriever(quality)
    users = [line.user_id for line in lines["bm25"]]

    for row in quality.retrievers[1:]:
        for measure in MEASURES:
            a, b = ([getattr(line, measure) for line in lines[name]] for name in ("bm25", row.retriever))
            assert getattr(row.chosen_minus, measure) == paired_interval(a, b, users, resamples=200, seed=3)
    assert quality.retrievers[0].chosen_minus is None
    assert quality.retrievers[-1].chosen_minus.best_rouge1.mean > 0


def test_an_interval_is_that_of_the_queries_clustered_by_user():
    records = [record(f"q{n}", f"u{n % 11}", shown("fix " * (n % 7 + 1))) for n in range(30)]

    quality = retrieval_quality(None, records, BM25, bootstrap=200, seed=3)
    lines = list(quality.overlaps.records())

    for measure in MEASURES:
        values, users = [getattr(line, measure) for line in lines], [line.user_id for line in lines]
        expected = mean_interval(values, users, resamples=200, seed=3)
        assert getattr(quality.retrievers[0].overlap, measure) == expected


def test_own_records_are_told_from_those_of_a_wrong_user(three_users):
    quality = retrieval_quality(three_users, asked("a", "b", "c"), BM25)

    assert means(quality, "bm25")["best_rouge1"] == means(quality, "random")["mean_rougeL"] == 1.0
    assert means(quality, "wrong user")["best_rouge1"] == 0.5  # the word "title", which all of them write
    for name, lines in by_retriever(quality).items():
        for line in lines:
            assert (line.profile_user_id not in (None, line.user_id)) == (name == "wrong user")


def test_a_query_without_a_target_is_left_out_and_counted(three_users):
    blank = [msgspec.structs.replace(asked("a")[0], target=target) for target in (None, " \n")]

    quality = retrieval_quality(three_users, [*blank, *asked("c")], BM25)

    assert (quality.n, quality.users, quality.without_target) == (1, 1, 2)
    with pytest.raises(DataError, match="none of 2 queries has a target; give queries with their targets"):
        retrieval_quality(three_users, blank, BM25)


def test_no_queries_are_an_error(three_users):
    with pytest.raises(DataError, match="no queries to evaluate"):
        retrieval_quality(three_users, [], BM25)


def test_an_empty_profile_scores_zero_and_is_counted(three_users):
    queries = [*asked("a"), Query(query_id="new", user_id="new", text="t", target="a title", date="2024")]

    quality = retrieval_quality(three_users, queries, BM25)

    assert {row.retriever: row.empty for row in quality.retrievers} == {
        "bm25": 1, "recency": 1, "random": 1, "wrong user": 0,
    }  # fmt: skip
    assert means(quality, "bm25")["best_rouge1"] == 0.5
    assert by_retriever(quality)["bm25"][1].records == 0


def test_a_control_shows_as_many_records_as_the_chosen_retriever(three_users):
    quality = retrieval_quality(three_users, asked("a", "b", "c", "c"), BM25)
    lines = by_retriever(quality)

    assert [line.records for line in lines["bm25"]] == [1, 2, 3, 3]
    assert [line.records for line in lines["recency"]] == [1, 2, 3, 3]
    assert all(wrong.records <= own.records for wrong, own in zip(lines["wrong user"], lines["bm25"], strict=True))


def test_one_user_alone_has_no_wrong_user_and_a_note_says_so(tmp_path):
    notes = Notes()
    with Store(tmp_path / "one.sqlite", create=True) as store:
        store.add_documents([Document(user_id="a", doc_id="d", text="text", title="a title", date="2023")])
        quality = retrieval_quality(store, asked("a"), BM25, reporter=notes)

    assert [row.retriever for row in quality.retrievers] == ["bm25", "recency", "random"]
    assert notes.notes == ["no row of a wrong user: no other user has records for query q0; index more than one user"]
    assert {line.retriever for line in quality.overlaps.records()} == {"bm25", "recency", "random"}


def test_a_query_older_than_all_others_records_is_left_out_of_the_wrong_users_row_alone(three_users):
    # In February of 2023 nobody but a has written anything.
    queries = [*asked("a", date="2023-02"), msgspec.structs.replace(asked("b")[0], query_id="late")]

    quality = retrieval_quality(three_users, queries, BM25)
    wrong = quality.retrievers[-1]

    assert [row.n for row in quality.retrievers] == [2, 2, 2, 1]
    assert wrong.chosen_minus.best_rouge1.n == wrong.overlap.best_rouge1.n == 1
    assert [line.query_id for line in by_retriever(quality)["wrong user"]] == ["late"]


def test_retrieved_records_are_measured_as_they_are_under_their_own_name(three_users):
    records = [record("q0", "c", shown("c title"), target="c title"), record("q1", "b", shown("x"), target="b title")]

    quality = retrieval_quality(three_users, records, BM25)
    lines = by_retriever(quality)

    assert [row.retriever for row in quality.retrievers] == ["mine", "recency", "random", "wrong user"]
    assert means(quality, "mine")["best_rouge1"] == 0.5
    assert means(quality, "recency")["best_rouge1"] == 1.0
    assert quality.k == 1 and [line.records for line in lines["recency"]] == [1, 1]


@pytest.mark.parametrize("retriever", ["bm25", "recency"])
def test_retrieved_records_of_prlm_give_what_their_queries_give(store, retriever):
    chosen = RetrievalSettings(k=2, retriever=retriever)
    queries = list(stored_queries(store, "dev"))
    records = list(retrieve(store, queries, chosen, seed=1))

    from_file = retrieval_quality(store, records, msgspec.structs.replace(chosen, k=7), seed=1)
    fresh = retrieval_quality(store, queries, chosen, seed=1)

    assert from_file.as_dict() == fresh.as_dict()
    assert list(from_file.overlaps.records()) == list(fresh.overlaps.records())


@pytest.mark.parametrize("name", ["recency", "random", "wrong user"])
def test_retrieved_records_keep_the_name_of_a_control_to_themselves(three_users, monkeypatch, name):
    monkeypatch.setattr(module, "_WINDOW", 1)
    records = [record(f"q{n}", "c", shown(title), name, "c title") for n, title in enumerate(["x", "c title"])]

    lines = by_retriever(retrieval_quality(three_users, records, BM25))

    assert len(lines) == 3
    assert [line.best_rouge1 for line in lines[name]] == [0.0, 1.0]


def test_whose_the_retrieved_records_are_is_no_fact_about_the_controls(three_users):
    borrowed = record("q", "c", shown("b title"), target="c title", profile_user_id="b")

    lines = retrieval_quality(three_users, [borrowed], BM25).overlaps.records()

    assert [line.profile_user_id for line in lines][:3] == ["b", None, None]


def test_a_record_that_came_without_documents_is_held_against_k(three_users):
    quality = retrieval_quality(three_users, [record(user_id="c", target="c title")], RetrievalSettings(k=2))

    assert [line.records for line in quality.overlaps.records()][:3] == [0, 2, 2]


def test_retrieved_records_and_queries_may_be_mixed_if_the_retriever_is_one(three_users):
    queries = asked("a", "b", "c")
    (middle,) = retrieve(three_users, [queries[1]], BM25)

    mixed = retrieval_quality(three_users, [queries[0], middle, queries[2]], BM25)

    assert mixed.as_dict() == retrieval_quality(three_users, queries, BM25).as_dict()
    with pytest.raises(DataError, match="query q1: records of retriever 'mine' after those of 'bm25'"):
        retrieval_quality(three_users, [queries[0], record("q1")], BM25)


def test_without_an_index_retrieved_records_stand_alone_and_a_note_says_so_once():
    notes = Notes()

    quality = retrieval_quality(None, [record(profile=shown("fix")), record("q1")], BM25, reporter=notes)

    assert [row.retriever for row in quality.retrievers] == ["mine"]
    assert (quality.retrievers[0].empty, means(quality, "mine")["best_rouge1"]) == (1, 0.25)
    assert notes.notes == ["no index to retrieve from: nothing to hold these records against"]


def test_queries_without_an_index_are_an_error():
    with pytest.raises(DataError, match="no index to retrieve records for query q0 from; run `prlm index DATA`"):
        retrieval_quality(None, asked("a"), BM25)


@pytest.mark.parametrize("retriever", ["recency", "random"])
def test_a_control_that_is_chosen_has_one_row(three_users, retriever):
    quality = retrieval_quality(three_users, asked("a", "b"), RetrievalSettings(retriever=retriever))

    assert [row.retriever for row in quality.retrievers].count(retriever) == 1
    assert len(quality.retrievers) == 3


@pytest.mark.parametrize(
    "values, message",
    [({"retriever": "none"}, "retriever 'none' retrieves nothing"), ({"k": 0}, "retrieval.k is 0")],
    ids=["none", "k"],
)
def test_settings_that_retrieve_nothing_are_refused_before_anything_is_read(values, message):
    def unread():
        raise AssertionError("read before the settings were checked")
        yield

    with pytest.raises(SettingsError, match=message):
        retrieval_quality(None, unread(), RetrievalSettings(**values))


def test_every_setting_is_one_of_eligibility_or_one_of_ranking_which_the_controls_do_without():
    ranking = {
        "retriever",
        "k",
        "min_score",
        "dedupe",
        "mmr",
        "rerank",
        "candidates",
        "corpus",
        "encoder",
        "cross_encoder",
    }

    assert set(RetrievalSettings.__struct_fields__) == ranking | set(module._ELIGIBILITY)


def test_the_controls_see_the_records_that_the_chosen_retriever_may_see(tmp_path):
    with Store(tmp_path / "undated.sqlite", create=True) as store:
        dates = {"dated": "2023", "undated": None}
        store.add_documents(Document(user_id="a", doc_id=d, text=d, title="a", date=date) for d, date in dates.items())
        counts = {
            undated: [
                line.records
                for line in retrieval_quality(store, asked("a"), RetrievalSettings(undated=undated)).overlaps.records()
            ]
            for undated in ("keep", "drop")
        }

    assert counts == {"keep": [2, 2, 2], "drop": [1, 1, 1]}


@settings(max_examples=25)
@given(order=st.permutations(range(6)), window=st.integers(1, 7))
def test_neither_the_order_of_the_queries_nor_the_window_changes_a_figure(tmp_path_factory, order, window):
    corpus = [Document(user_id=u, doc_id=f"d{n}", text=f"text {n}", title=f"{u} {n}") for u in "abc" for n in range(4)]
    targets = ["a 0", None, "a 2", "a 3", None, "c 5"]
    queries = [Query(query_id=f"q{n}", user_id="abc"[n % 3], text=f"text {n}", target=t) for n, t in enumerate(targets)]
    with (
        Store(tmp_path_factory.mktemp("store") / "index.sqlite", create=True) as store,
        pytest.MonkeyPatch.context() as m,
    ):
        store.add_documents(corpus)
        expected = retrieval_quality(store, queries, BM25, bootstrap=100)
        m.setattr(module, "_WINDOW", window)
        found = retrieval_quality(store, iter([queries[n] for n in order]), BM25, bootstrap=100)

    assert found.as_dict() == expected.as_dict()


def test_the_seed_decides_the_random_order_and_the_wrong_users(store):
    queries, settings = list(stored_queries(store, "train")), RetrievalSettings(k=1)

    def lines(seed):
        return by_retriever(retrieval_quality(store, queries, settings, bootstrap=100, seed=seed))

    def owners(seed):
        return [line.profile_user_id for line in lines(seed)["wrong user"]]

    assert lines(1) == lines(1)
    assert lines(1)["random"] != lines(2)["random"]
    assert len({tuple(owners(seed)) for seed in range(4)}) > 1


def test_the_wrong_users_of_a_large_index_come_from_a_sample(store, monkeypatch):
    monkeypatch.setattr(module, "_STAND_INS", 2)

    lines = by_retriever(retrieval_quality(store, stored_queries(store, "train"), BM25))["wrong user"]

    assert len({line.profile_user_id for line in lines}) == 2


def test_a_long_stream_is_not_held_in_memory(monkeypatch):
    monkeypatch.setattr(module, "_WINDOW", 20)
    stream = (record(f"q{n}", f"u{n}", shown("fix"), meta={"long": "x" * 50_000 + str(n)}) for n in range(600))

    tracemalloc.start()
    quality = retrieval_quality(None, stream, BM25, bootstrap=100)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert quality.n == 600
    assert peak < 10e6  # of 30 MB


def test_read_queries_takes_queries_and_retrieved_records(tmp_path):
    rows = [*asked("a"), record(profile=shown("fix"))]
    jsonl.write(tmp_path / "data.jsonl", rows)

    assert list(read_queries(tmp_path / "data.jsonl")) == rows


def test_on_real_commits_the_first_record_is_as_near_as_the_data_says(shared_data, tmp_path):
    # Unigram F1 of the top title is .213 there, and .077 with a user of equal history; over texts without their titles.
    commits, workspace = shared_data / "commits", Workspace(tmp_path / "commits")
    index(workspace, [commits / "profiles.jsonl"])
    with workspace.open_store() as store:
        queries = jsonl.read(commits / "queries.test.jsonl", Query)
        quality = retrieval_quality(store, queries, RetrievalSettings(k=1), bootstrap=100)

    assert (quality.n, quality.users) == (429, 286)
    assert means(quality, "bm25")["best_rouge1"] == pytest.approx(0.22, abs=0.02)
    assert means(quality, "wrong user")["best_rouge1"] == pytest.approx(0.085, abs=0.02)
    assert all(row.chosen_minus.best_rougeL.low > 0 for row in quality.retrievers[1:])
