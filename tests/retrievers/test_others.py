from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prlm_cli.core.records import Document, Query
from prlm_cli.core.settings import RetrievalSettings, RetrieverName
from prlm_cli.retrievers import RETRIEVERS
from prlm_cli.retrievers.eligible import eligible
from tests.retrievers.corpora import Unstored, documents, everything, history, queries

_WITH_A_MODEL = ("dense", "hybrid")
_ALONE = [name for name in RETRIEVERS if name not in _WITH_A_MODEL]


def _retriever(name, seed=0):
    return RETRIEVERS[name](Unstored(), RetrievalSettings(), seed=seed)


def test_the_settings_name_every_retriever():
    assert list(RETRIEVERS) == list(get_args(RetrieverName))


@pytest.mark.parametrize("name", _ALONE)
@settings(max_examples=20)
@given(data=st.data(), own=documents(), seed=st.integers(0, 9), k=st.integers(1, 9))
def test_every_retriever_ranks_only_what_the_query_sees_and_the_same_each_time(name, data, own, seed, k):
    query = data.draw(queries(own))
    past = history(own)
    seen = eligible(query, past, RetrievalSettings())
    ranked = _retriever(name, seed)(query, past, seen, k) if len(seen) else []

    assert ranked == (_retriever(name, seed)(query, past, seen, k) if len(seen) else [])
    positions = [position for position, _ in ranked]
    assert len(set(positions)) == len(ranked) == (0 if name == "none" else min(k, len(seen)))
    assert set(positions) <= set(seen)
    assert all(isinstance(score, float) for _, score in ranked)
    assert [score for _, score in ranked] == sorted((score for _, score in ranked), reverse=True)


def _order(name, own, query_id="q", seed=0, text="t"):
    past = history(own)
    query = Query(query_id=query_id, user_id="u", text=text)
    ranked = _retriever(name, seed)(query, past, everything(past), len(own))
    return [past.doc_ids[position] for position, _ in ranked]


def _dated(*dates):
    return [Document(user_id="u", doc_id=str(n), text="t", date=date) for n, date in enumerate(dates)]


def test_recency_puts_the_newest_first_and_without_dates_the_last_that_came_in():
    assert _order("recency", _dated("2023", "2025", "2024")) == ["1", "2", "0"]
    assert _order("recency", _dated(None, None, None)) == ["2", "1", "0"]
    assert _order("recency", _dated("2023", "2023", None)) == ["1", "0", "2"]
    assert _order("recency", _dated("1950", "1960", None)) == ["1", "0", "2"]


def test_random_order_depends_on_seed_and_query_alone():
    own = _dated(*[None] * 30)

    assert _order("random", own) == _order("random", own[::-1])
    assert len({tuple(_order("random", own, query_id, seed)) for seed in range(3) for query_id in "ab"}) == 6


@pytest.mark.parametrize("name", ["bm25+", "bm25l", "atire", "robertson"])
def test_a_variant_puts_the_document_that_shares_rare_words_first(name):
    words = ["parsing of trees", "parsing of speech", "parsing", "grammar"]
    own = [Document(user_id="u", doc_id=str(n), text=text, title=text) for n, text in enumerate(words)]

    assert _order(name, own, text="speech parsing")[:2] in (["1", "0"], ["1", "2"], ["1", "3"])
    assert _order(name, own, text="nothing at all") == ["0", "1", "2", "3"]
