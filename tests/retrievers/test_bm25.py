from __future__ import annotations

import json
import math
import random
from array import array
from collections import Counter
from itertools import pairwise
from pathlib import Path

import bm25s
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prlm_cli.core.records import Document, Query
from prlm_cli.core.settings import RetrievalSettings
from prlm_cli.retrievers import best, bm25, bm25_arrays
from prlm_cli.retrievers.bm25 import BM25
from prlm_cli.retrievers.eligible import Eligible
from tests.retrievers.corpora import ENGLISH, TEXTS, Unstored, documents, everything, history

_CORPORA = documents(max_size=10)
_SHARED = Path(__file__).parents[2].parent / "shared" / "data"
terms = ENGLISH.terms


def _query(text: str) -> Query:
    return Query(query_id="q", user_id="u", text=text)


def _ranked(text, own, k=100):
    past = history(own)
    ranked = BM25(Unstored(), RetrievalSettings(), seed=0)(_query(text), past, everything(past), k)
    return [(past.doc_ids[position], score) for position, score in ranked]


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


def _bm25s_scores(query: array, corpus: list[array]) -> list[float]:
    ids = {term: n for n, term in enumerate(sorted({term for document in corpus for term in document}))}
    asked = [ids[term] for term in query if term in ids]
    if not asked:
        return [0.0] * len(corpus)
    oracle = bm25s.BM25(method="lucene", k1=1.5, b=0.75, dtype="float64")
    rows = [[ids[term] for term in document] for document in corpus]
    oracle.index((rows, ids), create_empty_token=False, show_progress=False)
    return oracle.get_scores(asked).tolist()


@settings(max_examples=50)
@given(_CORPORA, TEXTS)
def test_scores_are_those_of_the_formula_and_of_bm25s(own, text):
    corpus = [terms(f"{document.title or ''}\n{document.text}") for document in own]
    scores = dict(_ranked(text, own))
    ours = [scores[document.doc_id] for document in own]

    assert ours == pytest.approx(_formula(terms(text), corpus) if own else [], rel=1e-9, abs=1e-9)
    assert ours == pytest.approx(_bm25s_scores(terms(text), corpus) if own else [], rel=1e-9, abs=1e-9)


@settings(max_examples=50)
@given(_CORPORA, TEXTS, st.integers(1, 12))
def test_the_best_k_go_by_score_and_of_equal_ones_newest_first_and_then_by_id(own, text, k):
    everyone = _ranked(text, own)
    until = {history(own).doc_ids[n]: entry.until for n, entry in enumerate(history(own).entries)}

    for (one, higher), (other, lower) in pairwise(everyone):
        assert higher >= lower
        if higher == lower:
            dates = [-math.inf if until[doc_id] is None else until[doc_id] for doc_id in (one, other)]
            assert dates[0] > dates[1] or (dates[0] == dates[1] and one < other)
    assert _ranked(text, own, k) == everyone[:k]


@settings(max_examples=100)
@given(st.data(), documents(max_size=10), TEXTS, st.integers(1, 12), st.booleans())
def test_arrays_give_the_same_to_the_bit_before_and_after_postings_are_made(data, own, text, k, with_postings):
    past = history(own)
    first, stop = sorted(data.draw(st.tuples(*[st.integers(0, len(own))] * 2)))
    span = range(first, stop)
    seen = Eligible(span, data.draw(st.frozensets(st.sampled_from(span))) if span else frozenset())
    if not len(seen):
        return
    wanted = Counter(terms(text))
    expected = dict(zip(seen, bm25.scores(wanted, past, seen), strict=True))
    with pytest.MonkeyPatch.context() as patch:
        if with_postings:
            patch.setattr(bm25_arrays, "_SCANS", 0)
            patch.setattr(bm25_arrays, "_LONG", 0)
        found = {n: score for score, n in bm25_arrays.candidates(wanted, past, seen, k)}
        bm25_arrays.candidates(wanted, past, Eligible(range(len(own)), frozenset()), k)
        again = {n: score for _ in range(2) for score, n in bm25_arrays.candidates(wanted, past, seen, k)}

    assert again == found
    assert all(expected[position] == score for position, score in found.items())
    assert sorted(found.values(), reverse=True)[:k] == sorted(expected.values(), reverse=True)[:k]
    assert (past.derived["bm25"]._postings is not None) == with_postings


@settings(max_examples=50)
@given(_CORPORA, TEXTS, st.integers(1, 12))
def test_it_cannot_be_seen_which_of_the_two_ran(own, text, k):
    found = []
    for looped_terms in (0, 10**9):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(bm25, "_FEW_TERMS", -1)
            patch.setattr(bm25, "_LOOPED_TERMS", looped_terms)
            patch.setattr(bm25, "sys", type("NoModules", (), {"modules": {}}))
            found.append(_ranked(text, own, k))

    assert found[0] == found[1]


@pytest.mark.skipif(not _SHARED.is_dir(), reason="no ../shared/data")
def test_real_histories_have_the_top_five_of_bm25s_in_its_order_ties_aside():
    own = {}
    for line in (_SHARED / "acl-small" / "profiles.jsonl").read_text().splitlines():
        fields = json.loads(line)
        own.setdefault(fields["user_id"], []).append(Document(**fields))
    queries = [json.loads(x) for x in (_SHARED / "acl-small" / "queries.dev.jsonl").read_text().splitlines()]
    for query in random.Random(0).choices(queries, k=300):
        mine = own[random.Random(query["query_id"]).choice(list(own))]
        corpus = [terms(f"{document.title or ''}\n{document.text}") for document in mine]
        expected = dict(zip([d.doc_id for d in mine], _bm25s_scores(terms(query["text"]), corpus), strict=True))
        ranked = _ranked(query["text"], mine, 5)

        assert [score for _, score in ranked] == pytest.approx(sorted(expected.values(), reverse=True)[:5], abs=1e-9)
        assert all(score == pytest.approx(expected[doc_id], abs=1e-9) for doc_id, score in ranked)


@pytest.mark.parametrize("text", ["", "the of", "x", "word that nobody wrote"])
def test_a_query_without_a_common_term_scores_zero_and_ranks_the_newest_first(text):
    own = [
        Document(user_id="u", doc_id=d, text="parsing", date=date)
        for d, date in [("b", "2023"), ("c", "2024"), ("a", "2023")]
    ]

    assert _ranked(text, own) == [("c", 0), ("a", 0), ("b", 0)]
    assert _ranked(text, own, 2) == [("c", 0), ("a", 0)]


def test_documents_of_stop_words_alone_can_be_ranked():
    own = [Document(user_id="u", doc_id=doc_id, text="the of") for doc_id in "ba"]

    assert _ranked("parsing", own) == [("a", 0), ("b", 0)]
    assert _ranked("parsing", []) == []


def _long_history(count):
    """One user's synthetic documents: words by a power law, dates that repeat, some documents that are equal."""
    choose = random.Random(7)
    words = [f"word{int(n)}" for n in range(2000)]
    weights = [1 / (n + 1) for n in range(2000)]
    texts = [" ".join(choose.choices(words, weights, k=choose.randrange(1, 60))) for _ in range(count - count // 10)]
    texts += choose.choices(texts, k=count // 10)
    return [
        Document(
            user_id="u",
            doc_id=f"d{choose.random()}",
            text=text,
            date=choose.choice([None, *(f"20{year}-0{month}" for year in range(10, 20) for month in range(1, 10))]),
        )
        for text in texts
    ]


def test_a_long_history_asked_again_and_again_gives_the_same_to_the_bit_as_the_loop():
    own = _long_history(3000)
    past = history(own)
    retriever = BM25(Unstored(), RetrievalSettings(), seed=0)  # with numpy, which tests have imported
    choose = random.Random(3)
    for n in range(30):
        query = _query(" ".join(choose.choice(own).text.split()[: choose.randrange(1, 30)]) + " unheard")
        first, stop = sorted(choose.sample(range(len(own) + 1), 2)) if n % 3 else (0, len(own))
        hidden = choose.sample(range(first, stop), min(stop - first - 1, choose.choice([0, 0, 1, 50, 2000])))
        seen = Eligible(range(first, stop), frozenset(hidden))
        k = choose.choice([1, 5, 100, 5000])
        wanted = Counter(terms(query.text))
        loop = best(zip(bm25.scores(wanted, past, seen), seen, strict=True), past, k)

        assert retriever(query, past, seen, k) == loop
        assert len(loop) == min(k, len(seen))
        assert (past.derived["bm25"]._postings is not None) == (n >= 10)
