import math
import random

import msgspec
import numpy as np
import pytest
from hypothesis import given
from scipy import stats

from prlm_cli.core.errors import DataError
from prlm_cli.metrics.intervals import (
    Interval,
    effective_users,
    mean_interval,
    paired_interval,
    paired_statistic_interval,
    share_interval,
    statistic_interval,
)
from tests.metrics.samples import ROWS, columns, simulated


def root_mean(sums):
    return np.sqrt(sums[..., 0] / sums[..., 1])


def squares(values):
    """What a root mean square is made of: (n, 2), each row's square and 1."""
    return np.array([[value * value, 1.0] for value in values])


def looped_bootstrap(values, user_ids, resamples, seed, value=lambda rows: sum(rows) / len(rows)):
    """The same interval as a loop: draw users, take all of their rows, cut off the expanded percentiles."""
    rng = random.Random(seed)
    users = {}
    for row, user_id in zip(values, user_ids, strict=True):
        users.setdefault(user_id, []).append(row)
    found = sorted(
        value([row for user_id in rng.choices(list(users), k=len(users)) for row in users[user_id]])
        for _ in range(resamples)
    )
    effective = len(values) ** 2 / sum(len(rows) ** 2 for rows in users.values())
    cut = stats.norm.cdf(stats.t.ppf(0.025, effective - 1) * math.sqrt(effective / (effective - 1)))
    return found[round(cut * resamples)], found[round((1 - cut) * resamples)]


def test_mean_interval_has_the_exact_mean_and_counts():
    interval = mean_interval([0.1] * 10, list("aabbccddee"))

    assert (interval.mean, interval.n, interval.users) == (0.1, 10, 5)
    assert (interval.low, interval.high) == pytest.approx((0.1, 0.1))


def test_mean_interval_agrees_with_a_looped_cluster_bootstrap():
    values, user_ids = simulated(users=60, seed=1)
    low, high = looped_bootstrap(values, user_ids, resamples=4000, seed=2)

    interval = mean_interval(values, user_ids, resamples=4000, seed=3)

    # The ends of two bootstraps of 4,000 differ by sampling alone, by a few hundredths of the width.
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=0.08 * (high - low))


def test_statistic_interval_agrees_with_a_looped_cluster_bootstrap():
    values, user_ids = simulated(users=60, seed=1)
    low, high = looped_bootstrap(
        values, user_ids, 4000, seed=2, value=lambda rows: math.sqrt(sum(row**2 for row in rows) / len(rows))
    )

    interval = statistic_interval(squares(values), user_ids, root_mean, resamples=4000, seed=3)

    assert interval.mean == pytest.approx(np.sqrt(np.mean(np.square(values))))
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=0.08 * (high - low))
    assert (interval.n, interval.users) == (len(values), 60)


def test_paired_statistic_interval_resamples_the_users_of_both_sides_together():
    values, user_ids = simulated(users=30, seed=3)
    shifted = [value + 1.0 for value in values]
    a, b = squares(shifted), squares(values)

    same = paired_statistic_interval(a, a, user_ids, root_mean)
    apart = paired_statistic_interval(a, b, user_ids, root_mean)

    assert (same.mean, same.low, same.high) == (0.0, 0.0, 0.0)
    assert apart.mean == pytest.approx(root_mean(a.sum(axis=0)) - root_mean(b.sum(axis=0)))
    assert apart.low < apart.mean < apart.high


def test_paired_statistic_interval_of_means_is_the_paired_interval():
    a, user_ids = simulated(users=30, seed=3)
    b = [value / 2 for value in a]
    rows = [np.array([[value, 1.0] for value in column]) for column in (a, b)]

    general = paired_statistic_interval(*rows, user_ids, lambda sums: sums[..., 0] / sums[..., 1], seed=1)
    simple = paired_interval(a, b, user_ids, seed=1)

    assert msgspec.structs.astuple(general) == pytest.approx(msgspec.structs.astuple(simple))


@pytest.mark.parametrize("users", [10, 20, 40])
def test_mean_interval_covers_the_truth_as_often_as_it_says(users):
    intervals = [mean_interval(*simulated(users, seed), resamples=400, seed=seed) for seed in range(1000)]

    covered = sum(interval.low <= 0.0 <= interval.high for interval in intervals) / len(intervals)

    assert 0.93 <= covered <= 0.97


def test_interval_of_few_users_misses_as_often_as_all_of_them_lie_on_one_side():
    intervals = [mean_interval(*simulated(3, seed), resamples=400, seed=seed) for seed in range(1000)]

    missed = sum(not interval.low <= 0.0 <= interval.high for interval in intervals) / len(intervals)

    assert missed == pytest.approx(2**-2, abs=0.03)


def test_users_with_most_of_the_rows_count_as_few():
    assert effective_users(np.array([3, 3, 3, 3])) == 4.0
    assert effective_users(np.array([97, 1, 1, 1])) == pytest.approx(1.0627, abs=1e-3)


def test_interval_holds_every_resample_where_one_user_has_nearly_all_rows():
    values, user_ids = [0.0] * 97 + [1.0, 1.0], ["u0"] * 97 + ["u1", "u2"]

    interval = mean_interval(values, user_ids)

    assert (interval.low, interval.high) == (0.0, 1.0)


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
    monkeypatch.setattr("prlm_cli.metrics.clusters._CELLS_AT_ONCE", 20 * 7)

    assert mean_interval(values, user_ids, resamples=500) == whole


def test_mean_interval_of_one_user_is_unbounded():
    interval = mean_interval([0.0, 1.0], ["u1", "u1"])

    assert interval == Interval(0.5, -math.inf, math.inf, 2, 1)
    assert f"{interval:.2f}" == "n/a"
    assert msgspec.json.decode(msgspec.json.encode(interval))["low"] is None


def test_interval_is_formatted_by_its_ends():
    assert f"{Interval(0.5, -0.25, 0.75, 4, 2):+.2f}" == "[-0.25, +0.75]"


@pytest.mark.parametrize(
    "function",
    [mean_interval, share_interval, lambda *none: paired_interval([], *none)],
    ids=["mean", "share", "paired"],
)
def test_no_rows_are_an_error(function):
    with pytest.raises(DataError, match="no scores"):
        function([], [])


def test_as_many_user_ids_as_rows_are_asked_for():
    with pytest.raises(ValueError, match="user ids"):
        mean_interval([0.1, 0.2], ["u1"])


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


def test_a_share_of_few_users_is_never_certain():
    assert share_interval([True, True], ["a", "b"]).low == pytest.approx(0.3424, abs=1e-3)  # Wilson, 2 of 2
    assert share_interval([True] * 40, ["a", "b"] * 20).low == pytest.approx(0.3424, abs=1e-3)  # still two users
    assert share_interval([True] * 9 + [False], [str(n) for n in range(10)]).low == pytest.approx(0.5958, abs=1e-3)
