import math
import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prlm_cli.core.errors import DataError
from prlm_cli.metrics.intervals import (
    Interval,
    mean_interval,
    paired_interval,
    paired_permutation_p,
    share_interval,
)

ROWS = st.lists(
    st.tuples(st.floats(0, 1, width=32), st.floats(0, 1, width=32), st.sampled_from("abcdef")), min_size=1, max_size=30
)


def columns(rows):
    a, b, user_ids = zip(*rows, strict=True)
    return list(a), list(b), list(user_ids)


def simulated(users, seed, effect=0.0):
    """Rows of users who differ: each user's rows share a level, and users have one to four rows."""
    rng = random.Random(seed)
    rows = []
    for user in range(users):
        level = rng.gauss(effect, 1.0)
        rows += [(level + rng.gauss(0.0, 0.3), f"u{user}") for _ in range(rng.randint(1, 4))]
    return [value for value, _ in rows], [user_id for _, user_id in rows]


def plain_bootstrap(values, user_ids, resamples, seed):
    """The same interval as a loop: draw users, take all of their rows, average."""
    rng = random.Random(seed)
    users = {}
    for value, user_id in zip(values, user_ids, strict=True):
        users.setdefault(user_id, []).append(value)
    means = []
    for _ in range(resamples):
        rows = [value for user_id in rng.choices(list(users), k=len(users)) for value in users[user_id]]
        means.append(sum(rows) / len(rows))
    means.sort()
    return means[round(0.025 * resamples)], means[round(0.975 * resamples)]


def test_mean_interval_has_the_exact_mean_and_counts():
    interval = mean_interval([0.1] * 10, list("aabbccddee"))

    assert (interval.mean, interval.n, interval.users) == (0.1, 10, 5)
    assert (interval.low, interval.high) == pytest.approx((0.1, 0.1))


def test_mean_interval_agrees_with_a_plain_cluster_bootstrap():
    values, user_ids = simulated(users=60, seed=1)
    low, high = plain_bootstrap(values, user_ids, resamples=4000, seed=2)

    interval = mean_interval(values, user_ids, resamples=4000, seed=3)

    # The ends of two bootstraps of 4,000 differ by sampling alone, by a few hundredths of the width.
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=0.08 * (high - low))


def test_mean_interval_covers_the_truth_about_as_often_as_it_says():
    intervals = [mean_interval(*simulated(users=40, seed=seed), resamples=300, seed=seed) for seed in range(300)]

    covered = sum(interval.low <= 0.0 <= interval.high for interval in intervals) / len(intervals)

    assert 0.90 <= covered <= 0.98


def test_mean_interval_is_wider_when_rows_come_from_fewer_users():
    values, user_ids = simulated(users=30, seed=4)
    by_user = mean_interval(values, user_ids)
    by_row = mean_interval(values, [str(row) for row in range(len(values))])

    assert by_user.high - by_user.low > 1.2 * (by_row.high - by_row.low)


def test_mean_interval_does_not_depend_on_the_order_of_rows():
    values, user_ids = simulated(users=20, seed=5)
    shuffled = list(zip(values, user_ids, strict=True))
    random.Random(0).shuffle(shuffled)

    assert mean_interval(*map(list, zip(*shuffled, strict=True)), seed=1) == mean_interval(values, user_ids, seed=1)


def test_mean_interval_depends_on_the_seed_alone():
    values, user_ids = simulated(users=20, seed=6)

    assert mean_interval(values, user_ids, seed=1) == mean_interval(values, user_ids, seed=1)
    assert mean_interval(values, user_ids, seed=1) != mean_interval(values, user_ids, seed=2)


def test_mean_interval_in_batches_is_one_of_as_many_resamples(monkeypatch):
    values, user_ids = simulated(users=20, seed=7)
    whole = mean_interval(values, user_ids, resamples=500)
    monkeypatch.setattr("prlm_cli.metrics.intervals._CELLS_AT_ONCE", 20 * 7)

    assert mean_interval(values, user_ids, resamples=500) == whole


def test_mean_interval_of_one_user_is_unbounded():
    interval = mean_interval([0.0, 1.0], ["u1", "u1"])

    assert interval == Interval(0.5, -math.inf, math.inf, 2, 1)
    assert f"{interval:.2f}" == "n/a"
    assert msgspec.json.decode(msgspec.json.encode(interval))["low"] is None


def test_interval_is_formatted_by_its_ends():
    assert f"{Interval(0.5, -0.25, 0.75, 4, 2):+.2f}" == "[-0.25, +0.75]"


@pytest.mark.parametrize(
    "function", [lambda: mean_interval([], []), lambda: paired_permutation_p([], [], [])], ids=["interval", "p"]
)
def test_no_rows_are_an_error(function):
    with pytest.raises(DataError, match="no scores"):
        function()


@given(ROWS)
def test_interval_holds_the_mean_of_equal_rows_and_keeps_the_range(rows):
    a, _, user_ids = columns(rows)
    interval = mean_interval(a, user_ids, resamples=100)

    assert min(a) - 1e-9 <= interval.mean <= max(a) + 1e-9
    assert interval.low <= interval.high
    assert interval.users == 1 or (min(a) - 1e-9 <= interval.low and interval.high <= max(a) + 1e-9)


@given(ROWS)
def test_swapping_a_and_b_negates_the_paired_interval(rows):
    a, b, user_ids = columns(rows)
    one, other = (paired_interval(x, y, user_ids, resamples=100) for x, y in ((a, b), (b, a)))

    assert (one.mean, one.low, one.high) == (-other.mean, -other.high, -other.low)


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


def test_a_share_of_few_users_is_never_certain():
    assert share_interval([True, True], ["a", "b"]).low == pytest.approx(0.3424, abs=1e-3)  # Wilson, 2 of 2
    assert share_interval([True] * 40, ["a", "b"] * 20).low == pytest.approx(0.3424, abs=1e-3)  # still two users
    assert share_interval([True] * 9 + [False], [str(n) for n in range(10)]).low == pytest.approx(0.5958, abs=1e-3)
