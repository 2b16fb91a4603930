from __future__ import annotations

import math
from array import array
from itertools import pairwise

import bm25s
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prlm_cli.core.records import Document, Query
from prlm_cli.core.terms import terms
from prlm_cli.retrievers.bm25 import bm25
from tests.retrievers.corpora import TEXTS, documents, entries

_CORPORA = documents(max_size=10)


def _query(text: str) -> Query:
    return Query(query_id="q", user_id="u", text=text)


def _formula(query: array, corpus: list[array]) -> list[float]:
    """Lucene's BM25 as it is printed, a term at a time, in float64."""
    average = sum(len(document) for document in corpus) / len(corpus)
    scores = [0.0] * len(corpus)
    for term in query:
        df = sum(term in document for document in corpus)
        idf = math.log(1 + (len(corpus) - df + 0.5) / (df + 0.5))
        for n, document in enumerate(corpus):
            if tf := document.count(term):
                scores[n] += idf * tf / (tf + 1.5 * (1 - 0.75 + 0.75 * len(document) / average))
    return scores


@settings(max_examples=50)
@given(_CORPORA, TEXTS)
def test_scores_are_those_of_the_formula(own, text):
    ranked = {entry.doc_id: score for entry, score in bm25(_query(text), entries(own))}
    expected = _formula(terms(text), [entry.terms for entry in entries(own)]) if own else []

    assert list(ranked) == sorted(ranked, key=list(ranked).index) and len(ranked) == len(own)
    assert [ranked[document.doc_id] for document in own] == pytest.approx(expected, rel=1e-9, abs=1e-9)


@settings(max_examples=50)
@given(_CORPORA, TEXTS)
def test_scores_and_order_are_those_of_bm25s_up_to_ties(own, text):
    corpus = [list(entry.terms) for entry in entries(own)]
    ids = {term: n for n, term in enumerate(sorted({term for document in corpus for term in document}))}
    query = [ids[term] for term in terms(text) if term in ids]
    ranked = bm25(_query(text), entries(own))
    if not query:
        assert all(score == 0 for _, score in ranked)
        return
    oracle = bm25s.BM25(method="lucene", k1=1.5, b=0.75, dtype="float64")
    oracle.index(
        ([[ids[term] for term in document] for document in corpus], ids), create_empty_token=False, show_progress=False
    )
    scores = dict(zip([d.doc_id for d in own], oracle.get_scores(query).tolist(), strict=True))

    assert [score for _, score in ranked] == pytest.approx(sorted(scores.values(), reverse=True), abs=1e-9)
    assert all(score == pytest.approx(scores[entry.doc_id], abs=1e-9) for entry, score in ranked)


@settings(max_examples=50)
@given(_CORPORA, TEXTS)
def test_ties_go_newest_first_and_then_by_id(own, text):
    ranked = bm25(_query(text), entries(own))

    for (one, higher), (other, lower) in pairwise(ranked):
        assert higher >= lower
        if higher == lower:
            assert ((one.until or 0), other.doc_id) >= ((other.until or 0), one.doc_id)


@settings(max_examples=50)
@given(_CORPORA, TEXTS, st.randoms(use_true_random=False))
def test_the_ranking_does_not_depend_on_the_order_of_the_documents(own, text, random):
    shuffled = entries(own)
    random.shuffle(shuffled)

    assert bm25(_query(text), shuffled) == bm25(_query(text), entries(own))


@pytest.mark.parametrize("text", ["", "the of", "x", "word that nobody wrote"])
def test_a_query_without_a_common_term_scores_zero_and_ranks_the_newest_first(text):
    own = [
        Document(user_id="u", doc_id=d, text="parsing", date=date)
        for d, date in [("b", "2023"), ("c", "2024"), ("a", "2023")]
    ]

    assert [(entry.doc_id, score) for entry, score in bm25(_query(text), entries(own))] == [
        ("c", 0),
        ("a", 0),
        ("b", 0),
    ]


def test_documents_of_stop_words_alone_can_be_ranked():
    own = [Document(user_id="u", doc_id=doc_id, text="the of") for doc_id in "ba"]

    assert [entry.doc_id for entry, _ in bm25(_query("parsing"), entries(own))] == ["a", "b"]
    assert bm25(_query("parsing"), []) == []
