from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from prlm_cli.core.records import Retrieved
from prlm_cli.pipeline.candidates import spread


def _queries(user_ids):
    return [
        Retrieved(query_id=f"q{n}", user_id=user_id, text="t", profile=[], retriever="bm25")
        for n, user_id in enumerate(user_ids)
    ]


_USERS = st.lists(st.sampled_from("abcde"), max_size=20)


@given(_USERS, st.integers(0, 25), st.integers(0, 5))
def test_nobody_is_asked_twice_more_than_another_who_has_queries_left(user_ids, count, seed):
    queries = _queries(user_ids)
    chosen = spread(queries, count, seed)
    taken, there = Counter(query.user_id for query in chosen), Counter(user_ids)

    assert len({query.query_id for query in chosen}) == len(chosen) == min(count, len(queries))
    for user_id in there:
        assert taken[user_id] == there[user_id] or taken[user_id] >= max(taken.values(), default=0) - 1


@given(_USERS, st.integers(0, 25), st.integers(0, 5))
def test_a_smaller_sample_is_the_beginning_of_a_larger_one_and_keeps_its_order(user_ids, count, seed):
    queries = _queries(user_ids)

    assert spread(queries, count, seed) == spread(queries, len(queries), seed)[:count]
