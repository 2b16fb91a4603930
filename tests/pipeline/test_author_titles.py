from __future__ import annotations

import random
from statistics import mean

import pytest

from prlm_cli.core.records import Document, Query
from prlm_cli.core.settings import RetrievalSettings
from prlm_cli.core.store import Store
from prlm_cli.models.authorship import AuthorClassifier
from prlm_cli.pipeline import author_titles as module
from prlm_cli.pipeline.author_titles import AuthorTitles, read_pool
from prlm_cli.pipeline.index import index
from prlm_cli.pipeline.queries import stored_queries
from prlm_cli.rewards import Titles
from tests.conftest import contents
from tests.pipeline.small import indexed


def _document(user_id, number, **fields):
    named = {"doc_id": f"{user_id}{number}", "title": f"{user_id} writes {number}", "text": f"{user_id} text {number}"}
    return Document(**({"user_id": user_id, "date": f"2024-{number:02d}-01"} | named | fields))


def _query(user_id, **fields):
    return Query(**({"query_id": f"q-{user_id}", "user_id": user_id, "text": "asked", "date": "2024-03-15"} | fields))


@pytest.fixture
def read(tmp_path):
    """Reads the titles of a store of some documents, for the first of the queries."""

    def of(documents, queries, settings=None, seed=0):
        with Store(tmp_path / "index.sqlite", create=True) as store:
            store.add_documents(documents)
            pool = read_pool(store, (query.user_id for query in queries), seed=seed)
            own, others = AuthorTitles(store, queries, pool, settings or RetrievalSettings(), seed=seed)(queries[0])
            return Titles(own, sorted(others))

    return of


def _titles(user_id, *numbers):
    return [f"{user_id} writes {number}" for number in numbers]


HISTORIES = [_document(user_id, number) for user_id in ("ann", "bob") for number in range(1, 6)]


def test_only_titles_older_than_the_query_are_learnt_from_on_either_side(read):
    own, others = read(HISTORIES, [_query("ann"), _query("bob")])

    assert (own, others) == (_titles("ann", 1, 2, 3), _titles("bob", 1, 2, 3))


def test_a_query_without_a_date_sees_all_but_the_document_it_was_made_from(read):
    made = _query("ann", date=None, text="ann text 5", source_doc_id="ann5")

    own, others = read(HISTORIES, [made, _query("bob")])

    assert (own, others) == (_titles("ann", 1, 2, 3, 4), _titles("bob", 1, 2, 3, 4, 5))


def test_the_dates_that_retrieval_was_told_count_as_well(read):
    own, others = read(HISTORIES, [_query("ann"), _query("bob")], RetrievalSettings(as_of="2024-02-15"))

    assert (own, others) == (_titles("ann", 1, 2), _titles("bob", 1, 2))


@pytest.mark.parametrize("undated, others", [("drop", []), ("keep", _titles("bob", 1, 2))])
def test_undated_titles_are_learnt_from_where_retrieval_shows_them(read, undated, others):
    documents = [*HISTORIES[:5], *(_document("bob", number, date=None) for number in (1, 2))]

    found = read(documents, [_query("ann"), _query("bob")], RetrievalSettings(undated=undated))

    assert found == (_titles("ann", 1, 2, 3), others)


def test_only_the_training_users_histories_are_read(read):
    assert read(HISTORIES, [_query("ann")]).others == []


def test_untitled_documents_and_titles_that_both_have_teach_nothing(read):
    documents = [*HISTORIES, _document("ann", 1, doc_id="x", title=None), _document("bob", 2, title="ann writes 1")]

    own, others = read(documents, [_query("ann"), _query("bob")])

    assert (own, others) == (_titles("ann", 1, 2, 3), _titles("bob", 1, 3))


def test_of_many_others_a_sample_is_taken_the_same_one_for_the_same_seed(read, monkeypatch):
    monkeypatch.setattr(module, "MAX_OTHERS", 3)
    documents = [*HISTORIES, *(_document(f"u{n}", 1) for n in range(20))]
    queries = [_query("ann"), *(_query(f"u{n}") for n in range(20))]

    one, again, other = (read(documents, queries, seed=seed).others for seed in (1, 1, 2))

    assert len(set(one)) == 3
    assert one == again != other


def test_of_many_users_only_some_histories_are_read_and_own_titles_stay_whole(read, monkeypatch):
    monkeypatch.setattr(module, "_MAX_POOL", 4)
    documents = [*HISTORIES, *(_document(f"u{n}", month) for n in range(20) for month in (1, 2))]
    queries = [_query("ann", date=None), *(_query(f"u{n}") for n in range(20))]

    own, others = read(documents, queries)

    assert own == _titles("ann", 1, 2, 3, 4, 5)
    assert 0 < len(others) <= 5
    assert len(others) == len({title.split()[0] for title in others}) * 2  # whole histories


def test_queries_of_one_id_but_two_users_see_each_their_own(tmp_path):
    queries = [_query("ann", query_id="q"), _query("bob", query_id="q")]
    with Store(tmp_path / "index.sqlite", create=True) as store:
        store.add_documents(HISTORIES)
        titles = AuthorTitles(store, queries, [], RetrievalSettings(), seed=0)

    assert [titles(query).own for query in queries] == [_titles("ann", 1, 2, 3), _titles("bob", 1, 2, 3)]


def test_nothing_of_it_is_written(tmp_path):
    workspace = indexed(tmp_path)
    with workspace.open_store() as store:
        before = contents(workspace.folder)
        queries = list(stored_queries(store, "train"))
        titles = AuthorTitles(store, queries, read_pool(store, store.users(), seed=0), RetrievalSettings(), seed=0)
        AuthorClassifier(*titles(queries[0]))

        assert contents(workspace.folder) == before


@pytest.fixture(scope="module")
def commits(tmp_path_factory, shared_data):
    from prlm_cli.core.workspace import Workspace

    workspace = Workspace(tmp_path_factory.mktemp("commits"))
    files = [shared_data / "commits" / name for name in ("profiles.jsonl", "queries.test.jsonl")]
    index(workspace, files, split="test")
    return workspace


def test_held_out_titles_of_real_users_are_recognised(commits):
    """A user's next title against the next ones of twenty others: the area under the curve is .5 for a coin."""
    with commits.open_store() as store:
        queries = list(store.queries(split="test"))
        titles = AuthorTitles(store, queries, read_pool(store, store.users(), seed=0), RetrievalSettings(), seed=0)
    wins = []
    for query in random.Random(0).sample(queries, 30):
        others = random.Random(query.query_id).sample([q for q in queries if q.user_id != query.user_id], 20)
        classifier = AuthorClassifier(*titles(query))
        own = classifier.probability(query.target)
        scores = [classifier.probability(other.target) for other in others]
        wins.append(mean((own > score) + (own == score) / 2 for score in scores))

    assert mean(wins) > 0.75
