from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from prlm_cli.core.records import Retrieved
from prlm_cli.core.terms import tokenizer
from prlm_cli.pipeline.neighbours import Neighbours

_WORDS = ["parse", "tree", "speech", "noise", "align", "the"]
_TEXTS = st.lists(st.sampled_from(_WORDS), max_size=6).map(" ".join)
_ENGLISH = tokenizer("english")


def _query(n, user_id, text):
    return Retrieved(query_id=f"q{n:02d}", user_id=user_id, text=text, profile=[], retriever="bm25")


_QUERIES = st.lists(st.tuples(st.sampled_from("abcd"), _TEXTS), min_size=1, max_size=12).map(
    lambda rows: [_query(n, user_id, text) for n, (user_id, text) in enumerate(rows)]
)


def _bm25(asked, queries):
    """The score of each query's text, by the formula, in float64."""
    counts = [_ENGLISH.counts(query.text) for query in queries]
    average = sum(count.total() for count in counts) / len(counts)
    found = Counter(term for count in counts for term in count)
    scores = []
    for count in counts:
        norm = 1.5 * (1 - 0.75 + 0.75 * count.total() / average) if average else 1.0
        scores.append(
            sum(
                wanted * math.log(1 + (len(counts) - found[t] + 0.5) / (found[t] + 0.5)) * count[t] / (count[t] + norm)
                for t, wanted in _ENGLISH.counts(asked.text).items()
            )
        )
    return scores


@given(_QUERIES)
def test_the_nearest_of_each_other_user_comes_once_in_the_order_of_the_formula(queries):
    neighbours = Neighbours(queries, _ENGLISH)
    for query in queries:
        scores = dict(zip([q.query_id for q in queries], _bm25(query, queries), strict=True))
        others = {q.user_id for q in queries if q.user_id != query.user_id and scores[q.query_id] > 0}

        found = list(neighbours.of(query))

        assert Counter(other.user_id for other in found) == Counter(others)
        for other in found:  # to the digits of float32
            best = max(scores[q.query_id] for q in queries if q.user_id == other.user_id)
            assert math.isclose(scores[other.query_id], best, rel_tol=1e-5)
        ordered = [scores[other.query_id] for other in found]
        assert all(a > b or math.isclose(a, b, rel_tol=1e-5) for a, b in pairwise(ordered))


@given(_QUERIES, st.randoms())
def test_the_order_of_the_queries_makes_no_difference(queries, random):
    shuffled = random.sample(queries, len(queries))
    first, second = Neighbours(queries, _ENGLISH), Neighbours(shuffled, _ENGLISH)

    for query in queries:
        assert list(first.of(query)) == list(second.of(query))


def test_of_equal_ones_the_first_by_id_is_nearest():
    queries = [_query(n, user_id, "parse tree") for n, user_id in enumerate("cabb")]

    assert [other.query_id for other in Neighbours(queries, _ENGLISH).of(queries[0])] == ["q01", "q02"]


def test_a_query_that_shares_no_word_is_not_near():
    queries = [_query(0, "a", "parse tree"), _query(1, "b", "speech"), _query(2, "c", "the")]
    neighbours = Neighbours(queries, _ENGLISH)

    assert [list(neighbours.of(query)) for query in queries] == [[], [], []]
    assert list(Neighbours(queries[2:], _ENGLISH).of(queries[0])) == []
