import itertools

import numpy as np
import pytest
from hypothesis import given

from prlm_cli.core.errors import DataError
from prlm_cli.metrics.permutation import paired_permutation_p, paired_statistic_p
from tests.metrics.samples import ROWS, columns, simulated


@given(ROWS)
def test_swapping_a_and_b_leaves_p(rows):
    a, b, user_ids = columns(rows)
    one, other = (paired_permutation_p(x, y, user_ids, resamples=32) for x, y in ((a, b), (b, a)))

    assert one == other
    assert 0 < one <= 1


def test_permutation_p_counts_every_swap_of_few_users():
    # All four users favour a: only the observed signs and all of them flipped are as extreme, 2 of 16.
    assert paired_permutation_p([1.0, 2.0, 3.0, 4.0], [0.0] * 4, list("wxyz")) == 2 / 16


def test_permutation_p_swaps_users_not_rows():
    assert paired_permutation_p([1.0] * 20, [0.0] * 20, ["x"] * 10 + ["y"] * 10) == 2 / 4


def test_permutation_p_of_equal_scores_is_one():
    assert paired_permutation_p([0.3] * 30, [0.3] * 30, [str(n) for n in range(30)]) == 1.0


def test_permutation_p_sees_a_clear_effect_and_doubts_none():
    effect, effect_users = simulated(users=40, seed=8, effect=1.0)
    nothing, nothing_users = simulated(users=40, seed=9)

    assert paired_permutation_p(effect, [0.0] * len(effect), effect_users) < 0.001
    assert paired_permutation_p(nothing, [0.0] * len(nothing), nothing_users) > 0.05


def test_random_and_complete_permutations_agree():
    values, user_ids = simulated(users=11, seed=10, effect=0.5)
    zeros = [0.0] * len(values)

    complete = paired_permutation_p(values, zeros, user_ids, resamples=2**11)
    sampled = paired_permutation_p(values, zeros, user_ids, resamples=2**11 - 1)

    assert sampled == pytest.approx(complete, abs=0.03)


def test_no_rows_have_no_p():
    with pytest.raises(DataError, match="no scores"):
        paired_permutation_p([], [], [])


def test_permutation_p_is_below_5_percent_as_often_as_that_without_an_effect():
    found = []
    for seed in range(1000):
        values, user_ids = simulated(users=20, seed=seed)
        found.append(paired_permutation_p(values, [0.0] * len(values), user_ids, resamples=400, seed=seed))

    assert 0.035 <= sum(p <= 0.05 for p in found) / len(found) <= 0.065


def ratio(sums):
    return sums[..., 0] / sums[..., 1]


def with_ones(values):
    return np.array([[value, 1.0] for value in values])


@pytest.mark.parametrize("users", [8, 30], ids=["every swap", "random swaps"])
def test_p_of_a_ratio_of_sums_is_that_of_the_means(users):
    a, user_ids = simulated(users, seed=11, effect=0.3)
    b = [0.1] * len(a)

    general = paired_statistic_p(with_ones(a), with_ones(b), user_ids, ratio)

    assert general == paired_permutation_p(a, b, user_ids)


def test_statistic_p_agrees_with_swapping_users_one_way_after_another():
    # The root mean squares of three users, by hand: a is 3, 4, 5, b is 1, 2, 6.
    a, b = [3.0, 4.0, 5.0], [1.0, 2.0, 6.0]

    def root(sums):
        return np.sqrt(sums[..., 0])

    def apart(swaps):
        left = [y if swap else x for x, y, swap in zip(a, b, swaps, strict=True)]
        right = [x if swap else y for x, y, swap in zip(a, b, swaps, strict=True)]
        return abs(np.linalg.norm(left) - np.linalg.norm(right))

    ways = [apart(swaps) for swaps in itertools.product((0, 1), repeat=3)]
    expected = sum(way >= ways[0] - 1e-12 for way in ways) / 8

    squares = [np.square(column)[:, None] for column in (a, b)]
    assert paired_statistic_p(*squares, ["u1", "u2", "u3"], root) == expected
