from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from prlm_cli.core.errors import DataError, SettingsError, StorageError
from prlm_cli.core.records import Document, Query, Retrieved, widen
from prlm_cli.core.settings import RetrievalSettings
from prlm_cli.core.store import Store
from prlm_cli.pipeline.retrieve import retrieve, swapped_profile
from tests.pipeline.small import Notes
from tests.retrievers.corpora import documents, in_new_store, interleaved, is_forbidden, queries

_USERS = ["u", "v", "w"]
_FEW = settings(max_examples=10)
_SETTINGS = st.builds(RetrievalSettings, k=st.integers(0, 12), undated=st.sampled_from(["drop", "keep"]))


def _settings(**fields) -> RetrievalSettings:
    return RetrievalSettings(**fields)


@st.composite
def _corpora(draw) -> dict[str, list[Document]]:
    """Documents of three users, who share ids and texts."""
    return {user_id: draw(documents(user_id, max_size=6)) for user_id in _USERS}


@_FEW
@given(data=st.data(), corpus=_corpora(), chosen=_SETTINGS)
def test_a_profile_holds_only_older_documents_of_the_querys_own_user_and_never_its_source(
    tmp_path_factory, ranking, data, corpus, chosen
):
    chosen, retriever = structs.replace(chosen, **ranking), ranking["retriever"]
    asked = [data.draw(queries(corpus[user], user)) for user in _USERS]
    with in_new_store(tmp_path_factory.mktemp("store"), data.draw(interleaved(corpus))) as store:
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


@_FEW
@given(data=st.data(), corpus=_corpora())
def test_what_other_users_have_add_or_lose_changes_nothing(tmp_path_factory, ranking, data, corpus):
    chosen = _settings(k=4, **ranking)
    asked = [data.draw(queries(corpus["u"])) for _ in range(2)]
    with in_new_store(tmp_path_factory.mktemp("alone"), corpus["u"]) as store:
        alone = list(retrieve(store, asked, chosen))
    with in_new_store(tmp_path_factory.mktemp("among"), data.draw(interleaved(corpus))) as store:
        assert list(retrieve(store, asked, chosen)) == alone
        store.add([Document(user_id=user, doc_id="one more", text="parse") for user in ("v", "x")])
        assert list(retrieve(store, asked, chosen)) == alone
        store.erase(data.draw(st.sampled_from(["v", "w", "x"])))
        store.erase("v", "one more")
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


def test_a_user_nobody_knows_has_an_empty_profile(store, ranking):
    (result,) = retrieve(store, [_query(user_id="nobody")], _settings(**ranking))

    assert result.profile == []
    assert result.retriever == ranking["retriever"]


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
    with in_new_store(tmp_path_factory.mktemp("store"), data.draw(interleaved(corpus))) as store:
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


def _asked():
    """Queries of two known users and an unknown one, turn by turn."""
    return [
        _query(query_id=f"q{n}", user_id=user_id, text=f"parsing {n}", date=None if n % 3 else "2022")
        for n in range(12)
        for user_id in ("u", "v", "nobody")
    ]


def test_windows_of_any_size_give_the_same_in_the_order_of_the_queries(store, ranking):
    found = {
        window: list(retrieve(store, _asked(), _settings(**ranking), window=window)) for window in (1, 2, 7, 10_000)
    }

    assert found[1] == found[2] == found[7] == found[10_000]
    assert [result.query_id for result in found[1]] == [query.query_id for query in _asked()]


@pytest.mark.parametrize(("window", "reads"), [(1, 36), (3, 36), (9, 12), (10_000, 3)])
def test_each_users_history_is_read_once_a_window(store, monkeypatch, window, reads):
    asked = []
    history = store.history
    monkeypatch.setattr(store, "history", lambda user_id: asked.append(user_id) or history(user_id))
    assert len(list(retrieve(store, _asked(), _settings(), window=window))) == 36

    assert len(asked) == reads


class _Refused(DataError):
    """What a stream of queries may raise."""


@pytest.mark.parametrize("window", [1, 2, 3, 5, 10_000])
@pytest.mark.parametrize("good", [0, 1, 4, 5, 6])
@pytest.mark.parametrize("wrong", [_Refused("q.jsonl:7: no field"), StorageError("disk"), "a date"])
def test_what_comes_before_an_error_is_answered_first(store, window, good, wrong):
    def stream():
        for n in range(good):
            yield _query(query_id=f"q{n}")
        if isinstance(wrong, str):
            yield _query(query_id="wrong", date="soon")
        else:
            raise wrong

    notes = Notes()
    results = retrieve(store, stream(), _settings(), window=window, reporter=notes)
    for n in range(good):
        assert next(results).query_id == f"q{n}"
    with pytest.raises(type(wrong) if isinstance(wrong, Exception) else DataError):
        next(results)
    assert next(results, None) is None
    assert notes.notes == []


def _ids(result):
    return [document.doc_id for document in result.profile]


def _add(path, doc_id, **fields):
    with Store(path, create=True) as writer:
        writer.add([Document(**{"user_id": "u", "doc_id": doc_id, "text": "parsing more", "date": "2020", **fields})])


def test_a_window_sees_one_state_and_the_next_window_the_new_one(store):
    with Store(store.path) as reader:
        results = retrieve(reader, [_query(), _query(user_id="v")] * 2, _settings(k=9), window=2)
        before = next(results)
        _add(store.path, "new")
        _add(store.path, "new", user_id="v")
        store.erase("u", "d0")
        assert "new" not in _ids(before) + _ids(next(results))
        after = next(results)
        assert "new" in _ids(after) and "d0" in _ids(before) and "d0" not in _ids(after)
        assert "new" in _ids(next(results))


def test_generators_that_take_turns_each_see_one_state_a_window(store):
    asked = [_query(query_id=f"q{n}") for n in range(4)]
    with Store(store.path) as reader:
        one, two = (retrieve(reader, asked, _settings(k=9), window=window) for window in (4, 2))
        first = next(one)
        assert _ids(next(two)) == _ids(first)
        _add(store.path, "new")
        store.erase("u", "d1")
        assert _ids(next(one)) == _ids(next(one)) == _ids(next(one)) == _ids(first)
        assert next(one, None) is None
        assert _ids(next(two)) == _ids(first)  # the second of its window, which goes on after the other has ended
        assert "new" in _ids(next(two)) and "d1" not in _ids(next(two))


def test_a_generator_that_is_left_halfway_lets_go_of_what_it_saw(store):
    with Store(store.path) as reader:
        results = retrieve(reader, [_query()] * 3, _settings(k=9))
        before = _ids(next(results))
        _add(store.path, "new")
        results.close()
        (after,) = retrieve(reader, [_query()], _settings(k=9))
        assert sorted(_ids(after)) == sorted([*before, "new"])
        store.truncate_log()  # which a reader would forbid


def test_a_store_that_is_closed_under_a_generator_is_a_storage_error_and_not_a_crash(store):
    with Store(store.path) as reader:
        results = retrieve(reader, [_query()] * 3, _settings())
        next(results)
    with pytest.raises(StorageError):
        next(results)
    results.close()
    with Store(store.path) as reader:
        results = retrieve(reader, [_query()] * 3, _settings(), window=1)
        next(results)
    with pytest.raises(StorageError):
        next(results)


def test_a_store_that_is_closed_over_a_generator_lets_it_end_in_silence(store, monkeypatch):
    said = []
    monkeypatch.setattr("sys.unraisablehook", said.append)
    with Store(store.path) as reader:
        results = retrieve(reader, [_query()] * 3, _settings())
        next(results)
    del results

    assert said == []


def test_queries_may_come_from_the_store_that_answers_them(store):
    store.add([_query(query_id=f"q{n}", split="test") for n in range(5)])
    with Store(store.path) as reader:
        found = list(retrieve(reader, reader.queries(split="test"), _settings(), window=2))

    assert [result.query_id for result in found] == [f"q{n}" for n in range(5)]
    assert all(_ids(result) for result in found)


def test_a_rebuild_in_another_language_ends_a_long_answer_with_a_word(store):
    with Store(store.path) as reader:
        results = retrieve(reader, [_query()] * 3, _settings(), window=1)
        next(results)
        store.rebuild("german")
        with pytest.raises(StorageError, match="rebuilt in another language meanwhile; start again"):
            next(results)
