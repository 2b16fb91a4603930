from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prlm_cli.core.records import Document, Query
from prlm_cli.retrievers import RETRIEVERS
from tests.retrievers.corpora import documents, entries, queries


@pytest.mark.parametrize("name", list(RETRIEVERS))
@settings(max_examples=20)
@given(data=st.data(), own=documents(), seed=st.integers(0, 9))
def test_every_retriever_ranks_only_what_it_was_given_and_the_same_each_time(name, data, own, seed):
    query = data.draw(queries(own))
    ranked = RETRIEVERS[name](query, entries(own), seed=seed)

    assert ranked == RETRIEVERS[name](query, entries(own), seed=seed)
    assert sorted(entry.rid for entry, _ in ranked) == ([] if name == "none" else list(range(1, len(own) + 1)))
    assert all(isinstance(score, float) for _, score in ranked)
    assert [score for _, score in ranked] == sorted((score for _, score in ranked), reverse=True)


def test_recency_puts_the_newest_first_and_without_dates_the_last_that_came_in():
    def order(*dates):
        own = [Document(user_id="u", doc_id=str(n), text="t", date=date) for n, date in enumerate(dates)]
        query = Query(query_id="q", user_id="u", text="t")
        return "".join(entry.doc_id for entry, _ in RETRIEVERS["recency"](query, entries(own), seed=0))

    assert order("2023", "2025", "2024") == "120"
    assert order(None, None, None) == "210"
    assert order("2023", "2023", None) == "102"
    assert order("1950", "1960", None) == "102"


def test_random_order_depends_on_seed_and_query_alone():
    own = [Document(user_id="u", doc_id=str(n), text="t") for n in range(30)]

    def order(seed, query_id, given=own):
        query = Query(query_id=query_id, user_id="u", text="t")
        return [entry.doc_id for entry, _ in RETRIEVERS["random"](query, entries(given), seed=seed)]

    assert order(0, "q") == order(0, "q", own[::-1])
    assert len({tuple(order(seed, query_id)) for seed in range(3) for query_id in "ab"}) == 6
