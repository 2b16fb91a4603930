from __future__ import annotations

import pytest
from hypothesis import given, settings

from prlm_cli.core.errors import DataError
from prlm_cli.core.records import Document, Query
from prlm_cli.core.settings import RetrievalSettings
from prlm_cli.pipeline.queries import MIN_HISTORY, made_from_history, open_queries, stored_queries
from prlm_cli.pipeline.retrieve import retrieve
from tests.retrievers.corpora import documents, in_new_store, is_forbidden


def _history(count, user_id="u", **fields):
    return [
        Document(user_id=user_id, doc_id=f"d{n}", text=f"text {n}", title=f"title {n}", date=f"{2000 + n}", **fields)
        for n in range(count)
    ]


@pytest.mark.parametrize(
    ("count", "splits"),
    [
        (0, []),
        (MIN_HISTORY, []),
        (MIN_HISTORY + 1, ["test"]),
        (MIN_HISTORY + 2, ["dev", "test"]),
        (MIN_HISTORY + 4, ["train", "train", "dev", "test"]),
    ],
)
def test_the_last_document_is_test_the_one_before_dev_and_the_first_stay_profile(count, splits):
    made = list(made_from_history(_history(count)))

    assert [query.split for query in made] == splits
    assert [query.source_doc_id for query in made] == [f"d{n}" for n in range(MIN_HISTORY, count)]


def test_a_made_query_asks_with_the_text_and_its_target_is_the_title():
    *_, last = made_from_history(_history(6))

    assert last == Query(
        query_id="u:d5",
        user_id="u",
        text="text 5",
        target="title 5",
        date="2005",
        split="test",
        source_doc_id="d5",
    )


def test_no_two_users_make_a_query_of_the_same_id():
    def ids(user_id, prefix):
        history = [Document(user_id=user_id, doc_id=f"{prefix}d{n}", text="t", title="t") for n in range(6)]
        return {query.query_id for query in made_from_history(history)}

    found = [ids("a", "b:"), ids("a:b", ""), ids("a%3Ab", "")]
    assert len(set.union(*found)) == sum(map(len, found)) == 6


def test_documents_without_a_title_become_no_query():
    history = [Document(user_id="u", doc_id=f"x{n}", text="t", title=title) for n, title in enumerate([None, ""])]

    assert [query.source_doc_id for query in made_from_history([*_history(5), *history])] == ["d4"]


def test_the_newest_counts_not_the_last_that_came_in_unless_there_are_no_dates():
    backwards = _history(6)[::-1]
    undated = [Document(user_id="u", doc_id=d.doc_id, text=d.text, title=d.title) for d in backwards]

    assert [query.source_doc_id for query in made_from_history(backwards)] == ["d4", "d5"]
    assert [query.source_doc_id for query in made_from_history(undated)] == ["d1", "d0"]


@settings(max_examples=30)
@given(documents(max_size=10))
def test_no_made_query_finds_its_own_source_or_anything_not_older(tmp_path_factory, own):
    with in_new_store(tmp_path_factory.mktemp("store"), own) as store:
        made = [query for split in ("train", "dev", "test") for query in stored_queries(store, split)]
        results = list(retrieve(store, made, RetrievalSettings(k=20)))

    titled = sum(bool(document.title) for document in own)
    assert len(made) == len({query.query_id for query in made}) == max(0, titled - MIN_HISTORY)
    for result in results:
        assert not any(is_forbidden(result, own, shown.doc_id) for shown in result.profile)
        assert result.source_doc_id not in [shown.doc_id for shown in result.profile]


@pytest.fixture
def store(tmp_path):
    with in_new_store(tmp_path, [*_history(7), *_history(6, "v")]) as store:
        yield store


def _ids(found):
    return [query.query_id for query in found]


def test_without_stored_queries_they_are_made_from_each_users_history(store):
    assert _ids(stored_queries(store, "test")) == ["u:d6", "v:d5"]
    assert _ids(stored_queries(store, "dev")) == ["u:d5", "v:d4"]
    assert _ids(stored_queries(store, "train")) == ["u:d4"]
    assert _ids(stored_queries(store, "test", user_id="v")) == ["v:d5"]


def test_stored_queries_of_the_split_take_the_place_of_made_ones(store):
    store.add_queries([Query(query_id="q", user_id="u", text="t", split="test")])

    assert _ids(stored_queries(store, "test")) == ["q"]
    assert _ids(stored_queries(store, "test", user_id="v")) == []
    assert _ids(stored_queries(store, "dev")) == ["u:d5", "v:d4"]


def test_with_stored_training_queries_none_are_made(store):
    store.add_queries([Query(query_id="q", user_id="u", text="t", split="train")])

    assert _ids(stored_queries(store, "train")) == ["q"]
    assert _ids(stored_queries(store, "dev")) == _ids(stored_queries(store, "test")) == []


def test_open_queries_are_the_unanswered_ones_and_else_those_of_the_test_split(store):
    answered = Query(query_id="a", user_id="u", text="t", target="g", split="train")
    asked = [Query(query_id=f"o{n}", user_id="u", text="t", split=split) for n, split in enumerate([None, "test"])]

    assert _ids(open_queries(store, "u")) == ["u:d6"]
    store.add_queries([answered, *asked])
    assert _ids(open_queries(store, "u")) == ["o0", "o1"]
    assert _ids(open_queries(store, "v")) == []


@pytest.mark.parametrize(
    "ask", [lambda store: stored_queries(store, "test", user_id="x"), lambda store: open_queries(store, "x")]
)
def test_an_unknown_user_is_an_error(store, ask):
    with pytest.raises(DataError, match="no user 'x' in the index"):
        list(ask(store))
