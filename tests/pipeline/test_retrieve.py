from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from prlm_cli.core.errors import DataError, SettingsError
from prlm_cli.core.records import Document, Query, Retrieved, widen
from prlm_cli.core.settings import RetrievalSettings
from prlm_cli.core.store import Store
from prlm_cli.pipeline.retrieve import retrieve, swapped_profile
from prlm_cli.retrievers import RETRIEVERS
from tests.retrievers.corpora import documents, in_new_store, is_forbidden, queries

_USERS = ["u", "v", "w"]
_FEW = settings(max_examples=15)
_SETTINGS = st.builds(RetrievalSettings, k=st.integers(0, 12), undated=st.sampled_from(["drop", "keep"]))


def _settings(**fields) -> RetrievalSettings:
    return RetrievalSettings(**fields)


@st.composite
def _corpora(draw) -> dict[str, list[Document]]:
    """Documents of three users, who share ids and texts."""
    return {user_id: draw(documents(user_id, max_size=6)) for user_id in _USERS}


def _mixed(data: st.DataObject, corpus: dict[str, list[Document]]) -> list[Document]:
    """All documents, users interleaved, each user's in order."""
    turns = data.draw(st.permutations([user for user, own in corpus.items() for _ in own]))
    left = {user: iter(own) for user, own in corpus.items()}
    return [next(left[user]) for user in turns]


@pytest.mark.parametrize("retriever", list(RETRIEVERS))
@_FEW
@given(data=st.data(), corpus=_corpora(), chosen=_SETTINGS)
def test_a_profile_holds_only_older_documents_of_the_querys_own_user_and_never_its_source(
    tmp_path_factory, retriever, data, corpus, chosen
):
    chosen = structs.replace(chosen, retriever=retriever)
    asked = [data.draw(queries(corpus[user], user)) for user in _USERS]
    with in_new_store(tmp_path_factory.mktemp("store"), _mixed(data, corpus)) as store:
        results = list(retrieve(store, asked, chosen, seed=3))

    assert [
        widen(Retrieved, q, profile=r.profile, retriever=retriever) for q, r in zip(asked, results, strict=True)
    ] == results
    for query, result in zip(asked, results, strict=True):
        own = {document.doc_id: document for document in corpus[query.user_id]}
        allowed = [
            doc_id
            for doc_id in own
            if not is_forbidden(query, corpus[query.user_id], doc_id, keep_undated=chosen.undated == "keep")
        ]
        assert len(result.profile) == (0 if retriever == "none" else min(chosen.k, len(allowed)))
        assert [shown.rank for shown in result.profile] == list(range(1, len(result.profile) + 1))
        for shown in result.profile:
            document = own[shown.doc_id]
            assert shown.doc_id in allowed
            assert (shown.text, shown.title, shown.date) == (document.text, document.title, document.date)


@pytest.mark.parametrize("retriever", list(RETRIEVERS))
@_FEW
@given(data=st.data(), corpus=_corpora())
def test_what_other_users_have_changes_nothing(tmp_path_factory, retriever, data, corpus):
    chosen = _settings(k=4, retriever=retriever)
    asked = [data.draw(queries(corpus["u"])) for _ in range(2)]
    with in_new_store(tmp_path_factory.mktemp("alone"), corpus["u"]) as store:
        alone = list(retrieve(store, asked, chosen))
    with in_new_store(tmp_path_factory.mktemp("among"), _mixed(data, corpus)) as store:
        assert list(retrieve(store, asked, chosen)) == alone


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "index.sqlite", create=True) as store:
        store.add_documents(
            Document(user_id=user_id, doc_id=f"d{n}", text=f"{user_id} parsing {n}", title=f"T{n}", date=f"202{n}")
            for n in range(4)
            for user_id in "uv"
        )
        yield store


def _query(**fields) -> Query:
    return Query(**{"query_id": "q", "user_id": "u", "text": "parsing", "date": "2023", **fields})


@pytest.mark.parametrize(("k", "count"), [(0, 0), (1, 1), (3, 3), (4, 3), (10**9, 3)])
def test_k_is_at_most_and_zero_gives_none(store, k, count):
    (result,) = retrieve(store, [_query()], _settings(k=k))

    assert len(result.profile) == count


@pytest.mark.parametrize("retriever", list(RETRIEVERS))
def test_a_user_nobody_knows_has_an_empty_profile(store, retriever):
    (result,) = retrieve(store, [_query(user_id="nobody")], _settings(retriever=retriever))

    assert result.profile == []
    assert result.retriever == retriever


def test_queries_are_read_as_results_are_taken(store):
    def endless():
        while True:
            yield _query()

    results = retrieve(store, endless(), _settings())
    assert next(results) == next(results)


@pytest.mark.parametrize("date", ["soon", "2024-13", 1e18])
def test_a_query_whose_date_is_no_date_is_named(store, date):
    with pytest.raises(DataError, match="query q: field 'date' is not a date"):
        list(retrieve(store, [_query(date=date)], _settings()))


def test_an_unknown_retriever_is_refused_by_the_settings():
    with pytest.raises(SettingsError, match="retriever: expected 'bm25'"):
        _settings(retriever="bm52")


@_FEW
@given(data=st.data(), corpus=_corpora(), seed=st.integers(0, 3))
def test_a_swapped_profile_is_another_users_and_says_whose(tmp_path_factory, data, corpus, seed):
    query = data.draw(queries(corpus["u"]))
    allowed = data.draw(st.lists(st.sampled_from(_USERS), unique=True))
    with in_new_store(tmp_path_factory.mktemp("store"), _mixed(data, corpus)) as store:
        try:
            result = swapped_profile(store, query, allowed, _settings(k=2), seed=seed)
        except DataError as error:
            assert "no other user has records for query" in str(error)
            for user in set(allowed) - {"u"}:
                assert all(is_forbidden(query, corpus[user], document.doc_id) for document in corpus[user])
            return
        assert result == swapped_profile(store, query, allowed[::1], _settings(k=2), seed=seed)

    owner = result.profile_user_id
    assert owner != "u" and owner in allowed and result.user_id == "u"
    own = {document.doc_id: document.text for document in corpus[owner]}
    for shown in result.profile:
        assert own[shown.doc_id] == shown.text
        assert not is_forbidden(query, corpus[owner], shown.doc_id)


def test_which_other_user_stands_in_depends_on_seed_and_query_but_not_on_the_order_of_the_users(tmp_path):
    users = [f"user{n}" for n in range(12)]
    with in_new_store(tmp_path, [Document(user_id=user, doc_id="d", text="parsing trees") for user in users]) as store:

        def owner(seed=0, query_id="q", given=users):
            return swapped_profile(store, _query(query_id=query_id), given, _settings(), seed=seed).profile_user_id

        assert len({owner(seed, query_id) for seed in range(4) for query_id in "abc"}) > 3
        assert owner() == owner(given=users[::-1])


def test_only_swapped_profile_ever_sets_whose_profile_it_is(store):
    (result,) = retrieve(store, [_query()], _settings())

    assert result.profile_user_id is None
    assert swapped_profile(store, _query(), ["u", "v"], _settings()).profile_user_id == "v"
    with pytest.raises(DataError, match="no other user has records for query q; index more than one user"):
        swapped_profile(store, _query(), ["u"], _settings())
