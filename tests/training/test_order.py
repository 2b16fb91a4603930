from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from prlm_cli.metrics.correlation import spearman
from prlm_cli.training.order import length_order, passes, query_order


@examples(max_examples=40)
@given(ids=st.sets(st.text(min_size=1, max_size=3), min_size=1, max_size=6), length=st.integers(1, 20))
def test_every_pass_over_the_queries_is_complete_and_in_an_order_of_its_own(ids, length):
    order = query_order(sorted(ids), length, 7)

    assert order == query_order(sorted(ids, reverse=True), length, 7)
    assert len(order) == length
    passes = [order[start : start + len(ids)] for start in range(0, length, len(ids))]
    assert all(set(once) == ids for once in passes[:-1])
    assert len(set(passes[-1])) == len(passes[-1])


def test_passes_and_seeds_differ_in_their_order():
    ids = [f"q{n}" for n in range(20)]
    passes = [query_order(ids, 60, 0)[start : start + 20] for start in (0, 20, 40)]

    assert all(a != b for a, b in pairwise(passes))
    assert query_order(ids, 60, 1) != query_order(ids, 60, 0)


def test_a_longer_run_begins_like_a_shorter_one():
    assert query_order(["a", "b", "c"], 10, 3)[:7] == query_order(["a", "b", "c"], 7, 3)


@given(st.lists(st.sampled_from("abc")))
def test_each_pass_over_an_id_has_the_next_number(order):
    found = passes(order)

    assert [query_id for query_id, _ in found] == order
    for query_id in set(order):
        assert [number for other, number in found if other == query_id] == list(range(order.count(query_id)))


@examples(max_examples=40)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=12), batch_size=st.integers(1, 4), steps=st.integers(1, 9)
)
def test_rows_by_length_are_taken_as_often_as_any_other(lengths, batch_size, steps):
    order = length_order(lengths, batch_size, steps, 3)

    plain = query_order([f"{row:09}" for row in range(len(lengths))], batch_size * steps, 3)
    assert sorted(order) == sorted(map(int, plain))


def test_rows_by_length_need_less_padding():
    lengths = [1 + n * 37 % 100 for n in range(100)]

    def padding(order):
        batches = [[lengths[row] for row in order[start : start + 4]] for start in range(0, len(order), 4)]
        return sum(max(batch) - length for batch in batches for length in batch)

    assert padding(length_order(lengths, 4, 25, 0)) < 0.4 * padding(range(100))


def test_steps_come_in_no_order_of_length():
    lengths = list(range(400))
    order = length_order(lengths, 4, 100, 0)

    longest = [max(lengths[row] for row in order[start : start + 4]) for start in range(0, len(order), 4)]
    assert abs(spearman(longest, range(100))) < 0.2
