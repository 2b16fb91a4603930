from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prlm_cli.core.errors import DataError
from prlm_cli.core.records import Retrieved
from prlm_cli.core.terms import tokenizer
from prlm_cli.pipeline.neighbours import Neighbours
from prlm_cli.pipeline.other_answers import OtherAnswers

_ENGLISH = tokenizer("english")
_TEXTS = st.lists(st.sampled_from(["parse", "tree", "speech", "noise"]), max_size=4).map(" ".join)


def _query(n, user_id, text, target="an answer"):
    return Retrieved(query_id=f"q{n}", user_id=user_id, text=text, target=target, profile=[], retriever="bm25")


@given(st.lists(st.tuples(st.sampled_from("abc"), _TEXTS, st.sampled_from(["One", "two", "three"])), max_size=8))
def test_it_is_the_nearest_other_users_that_is_not_the_own(rows):
    queries = [_query(n, *row) for n, row in enumerate([("a", "tree", "One"), ("b", "tree", "two"), *rows])]
    answers, neighbours = OtherAnswers(queries, _ENGLISH), Neighbours(queries, _ENGLISH)

    for query in queries:
        near = [other.target for other in neighbours.of(query) if other.target != query.target]
        assert answers(query) == (near[0] if near else None)
        assert answers(query) != query.target


@pytest.mark.parametrize("answer", ["Fix it", "fix  IT"])
def test_the_same_answer_of_somebody_else_is_passed_over(answer):
    queries = [_query(0, "a", "parse", "Fix it"), _query(1, "b", "parse", answer), _query(2, "c", "parse tree", "drop")]

    assert OtherAnswers(queries, _ENGLISH)(queries[0]) == "drop"


def test_a_query_like_no_other_has_none():
    queries = [_query(0, "a", "parse trees"), _query(1, "b", "speech", "other"), _query(2, "a", "parse", "other")]

    assert OtherAnswers(queries, _ENGLISH)(queries[0]) is None


def test_one_user_alone_has_nobody_to_differ_from():
    with pytest.raises(DataError, match=r"another user's answers need two users; index more users, or --contrast none"):
        OtherAnswers([_query(0, "a", "parse"), _query(1, "a", "parse")], _ENGLISH)
