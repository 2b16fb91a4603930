"""What narrows and reorders a ranking: least scores, equal texts, diversity, conditions on meta, bounds of dates."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prlm_cli.core.errors import SettingsError
from prlm_cli.core.records import Document, Query
from prlm_cli.core.settings import RetrievalSettings
from prlm_cli.pipeline.retrieve import retrieve
from prlm_cli.retrievers import RETRIEVERS
from tests.pipeline.small import Notes
from tests.retrievers.corpora import documents, in_new_store, queries

_FEW = settings(max_examples=10)
_ALONE = [name for name in RETRIEVERS if name not in ("dense", "hybrid")]


def _document(doc_id, text="parsing", **fields):
    return Document(user_id="u", doc_id=doc_id, text=text, **fields)


def _query(text="parsing trees", **fields):
    return Query(**{"query_id": "q", "user_id": "u", "text": text, **fields})


def _profile(folder, own, query, **fields):
    with in_new_store(folder, own) as store:
        (result,) = retrieve(store, [query], RetrievalSettings(**{"k": 10, **fields}))
    assert [document.rank for document in result.profile] == list(range(1, len(result.profile) + 1))
    return result.profile


def _ids(*args, **fields):
    return [document.doc_id for document in _profile(*args, **fields)]


_GRADED = [
    _document("none", "speech"),
    _document("one", "parsing speech noise"),
    _document("both", "parsing trees"),
    _document("title", "noise", title="parsing trees noise noise"),
]


def test_a_least_score_keeps_what_scores_strictly_more(tmp_path):
    everything = _profile(tmp_path, _GRADED, _query())
    assert [(d.doc_id, d.score > 0) for d in everything][-1] == ("none", False)

    for least in [document.score for document in everything]:
        found = _profile(tmp_path, _GRADED, _query(), min_score=least)
        assert found == [document for document in everything if document.score > least]
    assert _ids(tmp_path, _GRADED, _query(), min_score=0.0) == [document.doc_id for document in everything[:-1]]
    assert _profile(tmp_path, _GRADED, _query(), min_score=-0.5) == everything


@_FEW
@given(data=st.data(), own=documents(max_size=10), k=st.integers(1, 6), retriever=st.sampled_from(_ALONE))
def test_without_repeats_there_are_still_k_distinct_texts_if_there_are_so_many(
    tmp_path_factory, data, own, k, retriever
):
    query = data.draw(queries(own))
    folder = tmp_path_factory.mktemp("store")
    seen = _profile(folder, own, query, k=99, retriever=retriever)
    found = _profile(folder, own, query, k=k, retriever=retriever, dedupe=True)

    distinct = {document.text for document in seen}  # a text is the same whatever its white space; these have none
    assert len(found) == len({document.text for document in found}) == min(k, len(distinct))


def test_of_equal_texts_the_newest_stands_where_the_best_stood(tmp_path):
    own = [
        _document("old", "parsing trees", title="parsing trees", date="2021"),
        _document("new", "parsing  trees\n", date="2023"),
        _document("newer but other", "parsing grammars", date="2024"),
        _document("middle", "parsing trees", date="2022"),
    ]
    plain = _profile(tmp_path, own, _query("trees"))
    assert [document.doc_id for document in plain] == ["old", "new", "middle", "newer but other"]

    found = _profile(tmp_path, own, _query("trees"), dedupe=True)
    assert [(d.doc_id, d.score) for d in found] == [("new", plain[1].score), ("newer but other", 0.0)]
    assert _ids(tmp_path, own, _query("trees"), dedupe=True, k=2) == ["new", "newer but other"]


@_FEW
@given(data=st.data(), own=documents(max_size=10), k=st.integers(1, 6))
def test_diversity_of_weight_one_is_the_ranking(tmp_path_factory, data, own, k):
    query = data.draw(queries(own))
    folder = tmp_path_factory.mktemp("store")

    assert _profile(folder, own, query, k=k, mmr=1.0) == _profile(folder, own, query, k=k)


@_FEW
@given(data=st.data(), own=documents(max_size=10), k=st.integers(1, 6), weight=st.floats(0, 1))
def test_diversity_begins_with_the_best_and_chooses_among_the_candidates(tmp_path_factory, data, own, k, weight):
    query = data.draw(queries(own))
    folder = tmp_path_factory.mktemp("store")
    plain = _profile(folder, own, query, k=4)
    found = _profile(folder, own, query, k=k, mmr=weight, candidates=4)
    candidates = plain if k <= 4 else _profile(folder, own, query, k=k)

    assert len(found) == min(k, len(candidates))
    scores = {document.doc_id: document.score for document in candidates}
    assert all(scores[document.doc_id] == document.score for document in found)
    if found and weight > 0:
        assert found[0].doc_id == plain[0].doc_id


def test_a_repeat_comes_last_where_novelty_alone_counts(tmp_path):
    own = [
        _document("best", "parsing trees trees"),
        _document("the same again", "parsing trees trees"),
        _document("like it", "parsing trees noise"),
        _document("unlike it", "grammar speech"),
    ]

    assert _ids(tmp_path, own, _query("trees"), mmr=0.0) == ["best", "unlike it", "like it", "the same again"]
    assert _ids(tmp_path, own, _query("trees"), mmr=0.0, k=2) == ["best", "unlike it"]


_META = [
    _document("text", meta={"lang": "en", "n": "1"}),
    _document("number", meta={"lang": "de", "n": 1}),
    _document("half", meta={"n": 1.5, "lang": "en"}),
    _document("yes", meta={"ok": True, "lang": "en", "a=b": "c=d"}),
    _document("word", meta={"ok": "true"}),
    _document("null", meta={"ok": None, "n": 0}),
    _document("nested", meta={"tags": ["x", {"y": 1}]}),
    _document("nothing"),
]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (["lang=en"], {"text", "half", "yes"}),
        (["n=1"], {"text", "number"}),
        (["n=1.5"], {"half"}),
        (["n=01"], set()),
        (["ok=true"], {"yes", "word"}),
        (["ok=True"], set()),
        (["ok=null"], {"null"}),
        (["n=0"], {"null"}),
        (['tags=["x",{"y":1}]'], {"nested"}),
        (["lang=en", "n=1"], {"text"}),
        (["lang=en", "lang=de"], set()),
        (["lang=en", "lang=en"], {"text", "half", "yes"}),
        (["lang="], set()),
        (["a=b=c"], set()),
        (["unknown=1"], set()),
        ([], {document.doc_id for document in _META}),
    ],
)
@pytest.mark.parametrize("retriever", ["bm25", "recency"])
def test_conditions_keep_documents_whose_meta_meets_all_of_them(tmp_path, where, expected, retriever):
    found = _ids(tmp_path, _META, _query(), where=where, retriever=retriever)

    assert Counter(found) == Counter(expected)


def test_statistics_are_over_what_meets_the_conditions(tmp_path):
    others = [_document(f"other {n}", "parsing noise", meta={"x": 1}) for n in range(5)]
    fitting = [_document(d.doc_id, d.text, title=d.title, meta={"lang": "en"}) for d in _GRADED]
    for name in ("alone", "among"):
        (tmp_path / name).mkdir()

    alone = _profile(tmp_path / "alone", _GRADED, _query())
    assert _profile(tmp_path / "among", [*fitting, *others], _query(), where=["lang=en"]) == alone


@pytest.mark.parametrize("where", ["lang", "", "=en", "=", "lang:en"])
def test_a_condition_that_is_none_is_refused(tmp_path, where):
    with pytest.raises(SettingsError, match=r"--where .*; write --where key=value"):
        _profile(tmp_path, _META, _query(), where=["n=1", where])


_DATED = [_document(f"d{year}", f"parsing {year}", date=f"{year}") for year in range(2019, 2025)] + [
    _document("undated")
]


@pytest.mark.parametrize(
    ("date", "fields", "expected"),
    [
        (None, {}, {"d2019", "d2020", "d2021", "d2022", "d2023", "d2024", "undated"}),
        ("2022", {}, {"d2019", "d2020", "d2021"}),
        (None, {"as_of": "2021"}, {"d2019", "d2020"}),
        ("2024", {"as_of": "2021"}, {"d2019", "d2020"}),
        ("2020", {"as_of": "2024"}, {"d2019"}),
        (None, {"since": "2023"}, {"d2023", "d2024"}),
        ("2024", {"since": "2022"}, {"d2022", "d2023"}),
        ("2024", {"since": "2022", "as_of": "2023"}, {"d2022"}),
        ("2024", {"since": "2022", "undated": "keep"}, {"d2022", "d2023", "undated"}),
        ("2020", {"since": "2022"}, set()),
    ],
)
@pytest.mark.parametrize("retriever", ["bm25", "recency", "random"])
def test_dates_bound_what_is_ranked(tmp_path, date, fields, expected, retriever):
    found = _ids(tmp_path, _DATED, _query(date=date), retriever=retriever, **fields)

    assert Counter(found) == Counter(expected)
    if retriever == "recency":
        assert all(one > two for one, two in pairwise(found) if two != "undated" and one != "undated")


@pytest.mark.parametrize(
    ("own", "asked", "fields", "notes"),
    [
        (_DATED, [{"date": "2022"}, {"date": "2023"}, {}], {}, ["2 queries did not see undated documents"]),
        (_DATED, [{"date": "2022"}], {"undated": "keep"}, []),
        ([_document("undated")], [{"date": "2022"}], {}, []),
        ([_document("undated")], [{}, {}], {"since": "2022"}, ["2 queries did not see undated documents"]),
        ([_document("undated")], [{}], {"since": "2022", "undated": "keep"}, []),
        (_DATED[:-1], [{"date": "2023"}], {"since": "2022"}, []),
        (_DATED, [{"user_id": "v"}, {}, {"user_id": "w"}], {}, ["2 queries are of users without documents"]),
        (
            _DATED,
            [{"user_id": "v"}, {"date": "2020"}],
            {},
            ["1 queries are of users without documents", "1 queries did not see undated documents"],
        ),
        (_DATED, [{}], {}, []),
    ],
)
@pytest.mark.parametrize("window", [1, 100])
def test_what_was_left_out_is_said_once_at_the_end(tmp_path, own, asked, fields, notes, window):
    reporter = Notes()
    with in_new_store(tmp_path, own) as store:
        results = retrieve(
            store, [_query(**query) for query in asked], RetrievalSettings(**fields), reporter=reporter, window=window
        )
        for _ in asked:
            next(results)
            assert reporter.notes == []
        assert next(results, None) is None

    assert [note.partition(":")[0].partition(";")[0] for note in reporter.notes] == notes
