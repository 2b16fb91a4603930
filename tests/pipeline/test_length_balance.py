from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prlm_cli.core.records import PreferencePair
from prlm_cli.pipeline.length_balance import balanced

_LENGTHS = st.tuples(st.integers(1, 6), st.integers(1, 6))


def _pairs(lengths, kind="own>swapped"):
    return [
        PreferencePair(
            query_id=str(n), user_id="ada", kind=kind, text="t", profile=[], chosen="c " * c, rejected="r " * r
        )
        for n, (c, r) in enumerate(lengths)
    ]


def _signs(pairs):
    difference = [len(pair.chosen.split()) - len(pair.rejected.split()) for pair in pairs]
    return Counter((d > 0) - (d < 0) for d in difference)


@given(st.lists(_LENGTHS), st.floats(0, 1))
def test_among_what_is_kept_neither_side_outnumbers_the_other_or_half_is_gone(lengths, skew):
    pairs = _pairs(lengths)
    kept = balanced(pairs, skew)
    signs = _signs(kept)

    is_one_sided = 0 in (signs[1], signs[-1])
    is_half = len(pairs) - len(kept) == len(pairs) // 2
    assert abs(signs[1] - signs[-1]) <= skew * len(kept) or (kept == pairs if is_one_sided else is_half)


@given(st.lists(_LENGTHS), st.floats(0, 1))
def test_no_more_go_than_must_all_from_one_side_and_the_rest_keeps_its_order(lengths, skew):
    pairs = _pairs(lengths)
    kept = balanced(pairs, skew)
    before, after = _signs(pairs), _signs(kept)

    assert kept == [pair for pair in pairs if pair in kept]
    assert len(pairs) - len(kept) <= len(pairs) // 2
    assert after[0] == before[0] and (after[1] == before[1] or after[-1] == before[-1])
    if len(kept) < len(pairs):  # with one more of them it would be out of balance
        assert abs(after[1] - after[-1]) + 1 > skew * (len(kept) + 1)


@given(st.lists(_LENGTHS))
def test_with_a_skew_of_1_nothing_goes_and_a_balanced_list_stays_as_it_is(lengths):
    pairs = _pairs(lengths)

    assert balanced(pairs, 1.0) == pairs
    assert balanced(both := _pairs([*lengths, *((r, c) for c, r in lengths)]), 0.0) == both


def test_those_that_differ_most_go_first():
    kept = balanced(_pairs([(2, 1), (6, 1), (1, 2), (3, 1), (2, 2)]), 0.0)

    assert [pair.query_id for pair in kept] == ["0", "2", "4"]


@pytest.mark.parametrize(("skew", "count"), [(0.0, 50), (0.1, 50), (0.5, 68), (0.8, 100)])
def test_a_kind_that_is_out_of_balance_keeps_half_at_least(skew, count):
    assert len(balanced(_pairs([(3, 1)] * 83 + [(1, 3)] * 17), skew)) == count


def test_each_kind_is_balanced_by_itself():
    longer = _pairs([(2, 1)] * 3 + [(1, 2)], "own>swapped")
    shorter = _pairs([(1, 2)] * 3 + [(2, 1)], "own>zero_shot")

    assert Counter(pair.kind for pair in balanced([*longer, *shorter], 0.0)) == {"own>swapped": 2, "own>zero_shot": 2}


@pytest.mark.parametrize("lengths", [(2, 1), (1, 2)])
def test_a_kind_whose_lengths_always_differ_the_same_way_stays_whole(lengths):
    assert len(balanced(_pairs([lengths] * 9), 0.0)) == 9
