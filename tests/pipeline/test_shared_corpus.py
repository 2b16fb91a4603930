"""Documents of everybody beside a user's own: fused by rank, marked as such, and never newer than the query."""

from __future__ import annotations

import os
import shutil
import stat
from collections import Counter

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prlm_cli.core.dates import parse_period
from prlm_cli.core.errors import DataError, StorageError
from prlm_cli.core.records import Document, Query
from prlm_cli.core.settings import RetrievalSettings
from prlm_cli.core.terms import tokenizer
from prlm_cli.core.workspace import Workspace
from prlm_cli.pipeline.index import index
from prlm_cli.pipeline.retrieve import retrieve, swapped_profile
from prlm_cli.retrievers import bm25
from prlm_cli.retrievers.eligible import Eligible
from prlm_cli.retrievers.shared import SHARED_USER, SharedCorpus, build, drop_index
from tests.retrievers.corpora import DATES, TEXTS

_OWN = [
    {"user_id": user_id, "doc_id": f"{user_id}{n}", "text": f"{user_id} parsing trees {'tree ' * n}"}
    for user_id in ("ann", "bob")
    for n in range(3)
]
_SHARED = [
    {"doc_id": "grammar", "text": "a grammar of trees", "title": "Grammar", "meta": {"lang": "en"}},
    {"doc_id": "parser", "text": "how a parser is parsing", "date": "2022", "meta": {"lang": "de"}},
    {"doc_id": "noise", "text": "speech under noise"},
    {"doc_id": "late", "text": "parsing trees again", "date": "2024-05"},
]


@pytest.fixture
def place(tmp_path, write_jsonl):
    place = Workspace(tmp_path / "ws")
    index(place, [write_jsonl(_OWN, "own.jsonl")])
    index(place, [write_jsonl(_SHARED, "shared.jsonl")], shared=True)
    return place


def _query(text="parsing trees", **fields):
    return Query(**{"query_id": "q", "user_id": "ann", "text": text, **fields})


def _profile(place, query, **fields):
    with place.open_store() as store:
        (result,) = retrieve(store, [query], RetrievalSettings(**{"k": 9, "corpus": "shared", **fields}))
    return result.profile


def _shared_ids(place, query, **fields):
    profile = _profile(place, query, **fields)
    return [document.doc_id for document in profile if document.corpus == "shared"]


def test_both_rankings_are_fused_by_rank_and_of_equal_ranks_the_own_document_comes_first(place):
    own = _profile(place, _query(), corpus="own")
    fused = _profile(place, _query())
    shared = [document for document in fused if document.corpus == "shared"]

    assert [document.doc_id for document in shared] == ["late", "parser", "grammar"]
    pairs = [document.doc_id for two in zip(own, shared, strict=True) for document in two]
    assert [document.doc_id for document in fused] == pairs
    assert [document.score for document in fused] == [1 / (60 + rank) for rank in (1, 1, 2, 2, 3, 3)]
    assert [document.rank for document in fused] == [1, 2, 3, 4, 5, 6]
    for k in range(8):
        assert _profile(place, _query(), k=k) == fused[:k]


def test_only_what_is_shared_is_marked(place):
    with place.open_store() as store:
        (result,) = retrieve(store, [_query()], RetrievalSettings(corpus="shared"))
    shown = msgspec.json.decode(msgspec.json.encode(result))["profile"]

    assert [document.get("corpus", "none") for document in shown] == ["none", "shared", "none", "shared"]
    assert ["corpus" in document for document in shown] == [False, True, False, True]
    assert [document["text"].startswith("ann ") for document in shown] == [True, False, True, False]


def test_a_user_without_documents_and_a_retriever_of_none_get_the_shared_ones_alone(place):
    assert _shared_ids(place, _query(user_id="nobody")) == ["late", "parser", "grammar"]
    assert [document.doc_id for document in _profile(place, _query(), retriever="none")] == [
        "late",
        "parser",
        "grammar",
    ]


@pytest.mark.parametrize("text", ["", "the of", "words that nobody wrote", "x"])
def test_a_query_that_shares_no_word_with_the_corpus_gets_its_own_documents_alone(place, text):
    assert _profile(place, _query(text)) != []
    assert _shared_ids(place, _query(text)) == []


def test_the_text_of_the_query_itself_is_never_shown(place):
    assert _shared_ids(place, _query("a grammar  of\ntrees")) == ["late"]
    assert _shared_ids(place, _query("a grammar of trees"), k=1) == []
    assert [document.doc_id for document in _profile(place, _query("a grammar of trees"), k=1, retriever="none")] == [
        "late"
    ]


def test_conditions_on_meta_hold_for_shared_documents_too(place):
    assert _shared_ids(place, _query(), where=["lang=de"]) == ["parser"]
    assert _shared_ids(place, _query(), where=["lang=de", "lang=en"]) == []
    assert [document.corpus for document in _profile(place, _query(), where=["lang=en"])] == ["shared"]


@pytest.mark.parametrize(
    ("date", "fields", "expected"),
    [
        ("2022", {}, {"grammar"}),
        ("2022-12-31", {}, {"grammar"}),
        ("2023", {}, {"grammar", "parser"}),
        ("2024-05-31", {}, {"grammar", "parser"}),
        ("2024-06", {}, {"grammar", "parser", "late"}),
        (None, {"as_of": "2023"}, {"grammar", "parser"}),
        ("2030", {"as_of": "2023"}, {"grammar", "parser"}),
        ("2022", {"as_of": "2030"}, {"grammar"}),
        (None, {"since": "2023"}, {"late"}),
        (None, {"since": "2023", "undated": "keep"}, {"grammar", "late"}),
        ("2023", {"since": "2022"}, {"parser"}),
    ],
)
def test_dates_bound_shared_documents_but_undated_ones_belong_to_all_times(place, date, fields, expected):
    assert Counter(_shared_ids(place, _query(date=date), **fields)) == Counter(expected)


def _in_new_corpus(folder, documents):
    place = Workspace(folder)
    with place.open_store(create=True, shared=True) as store:
        store.add(documents)
    drop_index(folder)
    return place


_CORPORA = st.lists(
    st.builds(
        lambda n, text, date: Document(user_id=SHARED_USER, doc_id=f"d{n}", text=f"{text} tree", date=date),
        st.integers(0, 20),
        TEXTS,
        st.none() | DATES,
    ),
    min_size=1,
    max_size=8,
    unique_by=lambda document: document.doc_id,
)


@settings(max_examples=30)
@given(documents=_CORPORA, text=TEXTS, date=st.none() | DATES, as_of=st.none() | DATES.filter(lambda d: type(d) is str))
def test_a_shared_document_is_strictly_older_than_the_query_and_scores_as_bm25_over_all_of_them(
    tmp_path_factory, documents, text, date, as_of
):
    query = Query(query_id="q", user_id="u", text=text, date=date)
    place = _in_new_corpus(tmp_path_factory.mktemp("ws"), documents)
    with place.open_store(shared=True) as store:
        history = store.history(SHARED_USER)
        scores = bm25.scores(
            Counter(tokenizer("english").terms(text)), history, Eligible(range(len(history)), frozenset())
        )
        expected = dict(zip(history.doc_ids, scores, strict=True))
    by_id = {document.doc_id: document for document in documents}

    corpus = SharedCorpus(place.folder)
    hits = corpus.search(query, RetrievalSettings(k=99, as_of=as_of), lambda document: True)
    found = corpus.documents([hit.rid for hit in hits])
    corpus.close()

    starts = [parse_period(limit).start for limit in (date, as_of) if limit is not None]
    allowed = {
        doc_id
        for doc_id, score in expected.items()
        if score > 0 and all(by_id[doc_id].date is None or parse_period(by_id[doc_id].date).end < s for s in starts)
    }
    assert {document.doc_id for document in found} == allowed
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    for document, hit in zip(found, hits, strict=True):
        assert hit.score == pytest.approx(expected[document.doc_id], rel=1e-5)


def test_a_shared_document_of_the_very_instant_of_the_query_is_not_older(tmp_path):
    instants = [1000, 999.999999, 1000.000001]
    documents = [
        Document(user_id=SHARED_USER, doc_id=f"d{n}", text="tree", date=date) for n, date in enumerate(instants)
    ]
    place = _in_new_corpus(tmp_path / "ws", documents)
    with place.open_store(create=True):
        pass

    assert _shared_ids(place, _query("trees", date=1000)) == ["d1"]


def test_of_equal_scores_the_newest_comes_first_and_an_undated_one_last(tmp_path):
    dates = ["2021", None, "2023", "2022"]
    documents = [Document(user_id=SHARED_USER, doc_id=f"d{n}", text="tree", date=date) for n, date in enumerate(dates)]
    place = _in_new_corpus(tmp_path / "ws", documents)
    with place.open_store(create=True):
        pass

    assert _shared_ids(place, _query("tree trees")) == ["d2", "d3", "d0", "d1"]


def test_a_change_is_seen_by_the_next_query(place, write_jsonl):
    changed = [_SHARED[0] | {"text": "nothing of it"}, {"doc_id": "new", "text": "parsing trees, parsing trees"}]
    index(place, [write_jsonl(changed)], shared=True)
    found = _profile(place, _query())
    fresh = Workspace(place.folder.parent / "fresh")
    index(fresh, [write_jsonl(_OWN)])
    index(fresh, [write_jsonl([changed[0], *_SHARED[1:], changed[1]])], shared=True)

    assert _profile(fresh, _query()) == found
    assert _shared_ids(place, _query())[0] == "new" and "grammar" not in _shared_ids(place, _query())


def test_queries_of_one_batch_see_one_state_and_the_next_batch_the_new_one(place, write_jsonl):
    with place.open_store() as store:
        results = retrieve(store, [_query(), _query()], RetrievalSettings(corpus="shared", k=9))
        first = next(results)
        new = write_jsonl([{"doc_id": "parser", "text": "rewritten"}])
        index(place, [new], shared=True)
        assert next(results) == first
        assert [document.doc_id for document in _profile(place, _query()) if document.corpus == "shared"] == [
            "late",
            "grammar",
        ]


def test_a_workspace_without_a_shared_corpus_is_told_how_to_make_one(tmp_path, write_jsonl):
    place = Workspace(tmp_path / "ws")
    index(place, [write_jsonl(_OWN)])

    with pytest.raises(DataError, match=r"no shared corpus in .*; run `prlm index --corpus shared DATA` first"):
        _profile(place, _query())
    with place.open_store(create=True, shared=True) as store:
        store.add([Document(user_id=SHARED_USER, doc_id="d", text="the of")])
    with pytest.raises(DataError, match="the shared corpus has no words"):
        _profile(place, _query())


def test_an_index_that_is_gone_is_made_anew_and_one_that_is_damaged_is_named(place, monkeypatch):
    before = _profile(place, _query())
    folder = place.folder / "shared.bm25s"
    shutil.rmtree(folder)
    assert _profile(place, _query()) == before
    assert folder.is_dir()

    (folder / "terms.npy").write_bytes(b"no array")
    with pytest.raises(StorageError, match=r"shared.bm25s cannot be read; remove it: it is made anew"):
        _profile(place, _query())


def test_an_index_that_cannot_be_written_is_a_storage_error(place, monkeypatch):
    shutil.rmtree(place.folder / "shared.bm25s")

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    with pytest.raises(StorageError, match=r"shared.bm25s: Permission denied"):
        _profile(place, _query())


def test_who_reads_never_replaces_an_index_that_is_there_but_who_writes_does(place):
    marker = place.folder / "shared.bm25s" / "marker"
    marker.touch()
    build(place.folder, replace=False)
    assert marker.exists()
    build(place.folder)
    assert not marker.exists()
    assert _shared_ids(place, _query()) == ["late", "parser", "grammar"]
    assert [file.name for file in place.folder.iterdir() if file.name.startswith(".shared")] == []


def test_nothing_stays_open_and_only_the_owner_may_read_it(place):
    before = os.umask(0)
    try:
        build(place.folder)
    finally:
        os.umask(before)
    _profile(place, _query())
    with place.open_store() as store:
        results = retrieve(store, [_query()] * 3, RetrievalSettings(corpus="shared"))
        next(results)
        results.close()  # abandoned halfway
        swapped_profile(store, _query(), ["bob"], RetrievalSettings(corpus="shared"))

    assert not [file.name for file in place.folder.iterdir() if file.name.startswith("shared.sqlite-")]
    folder = place.folder / "shared.bm25s"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}


def test_shared_documents_alone_are_no_swapped_profile(place):
    chosen = RetrievalSettings(corpus="shared", k=9)
    with place.open_store() as store:
        found = swapped_profile(store, _query(), ["ann", "bob", "nobody"], chosen)
        assert found.profile_user_id == "bob"
        owners = {document.text.split()[0] for document in found.profile if document.corpus != "shared"}
        assert owners == {"bob"}
        with pytest.raises(DataError, match="no other user has records"):
            swapped_profile(store, _query(), ["ann", "nobody"], chosen)
