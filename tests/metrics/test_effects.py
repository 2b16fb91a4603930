import math
import random
from statistics import mean, stdev

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from prlm_cli.core.errors import DataError
from prlm_cli.metrics.effects import effect_size, holm, least_gain
from prlm_cli.metrics.permutation import paired_permutation_p
from tests.metrics.samples import ROWS, columns


def test_effect_size_is_the_mean_over_the_spread_of_the_users_means():
    # The users' means are 0.2, 0.4 and 0.9.
    found = effect_size([0.1, 0.3, 0.4, 0.9], ["u1", "u1", "u2", "u3"])

    assert found == pytest.approx(mean([0.2, 0.4, 0.9]) / stdev([0.2, 0.4, 0.9]))


@pytest.mark.parametrize(
    "differences, user_ids",
    [([0.5, 0.1], ["u1", "u1"]), ([0.3] * 4, ["u1", "u2", "u3", "u4"]), ([0.0, 0.0], ["u1", "u2"])],
    ids=["one-user", "all-alike", "no-difference"],
)
def test_effect_size_is_none_where_users_have_no_spread(differences, user_ids):
    assert effect_size(differences, user_ids) is None


@given(ROWS)
def test_effect_size_and_least_gain_do_not_depend_on_the_order_or_the_sign(rows):
    differences, _, user_ids = columns(rows)
    turned, owners = [-value for value in reversed(differences)], list(reversed(user_ids))
    size, gain = effect_size(differences, user_ids), least_gain(differences, user_ids)

    assert effect_size(turned, owners) == (size if size is None else -size)
    assert least_gain(turned, owners) == gain
    assert gain is None or gain >= 0.0


def test_least_gain_of_one_row_a_user_is_that_of_the_paired_t_test():
    differences = [random.Random(n).gauss(0.2, 1.0) for n in range(25)]
    error = stats.sem(differences)

    found = least_gain(differences, [f"u{n}" for n in range(25)])

    assert found == pytest.approx((stats.t.ppf(0.975, 24) + stats.t.ppf(0.8, 24)) * error)


def test_least_gain_is_larger_where_rows_come_from_fewer_users():
    differences = [random.Random(n // 5).gauss(0.0, 1.0) for n in range(100)]  # five alike, twenty times

    by_user = least_gain(differences, [f"u{n // 5}" for n in range(100)])
    by_row = least_gain(differences, [f"u{n}" for n in range(100)])

    assert by_user == pytest.approx(by_row * math.sqrt(5), rel=0.1)


@pytest.mark.parametrize("user_ids", [["u1"] * 4, ["u1", "u1", "u1", "u2"]], ids=["one-user", "hardly-more-than-one"])
def test_least_gain_is_none_for_hardly_more_than_one_user(user_ids):
    assert least_gain([0.1, 0.2, 0.3, 0.4], user_ids) is None


def test_the_least_gain_is_found_in_four_of_five_test_sets():
    rng = np.random.default_rng(0)
    user_ids = [f"u{n // 3}" for n in range(90)]
    noise = lambda: np.repeat(rng.normal(0.0, 1.0, 30), 3) + rng.normal(0.0, 0.5, 90)  # noqa: E731
    gain = mean(least_gain(noise().tolist(), user_ids) for _ in range(200))

    found = [
        paired_permutation_p((noise() + gain).tolist(), [0.0] * 90, user_ids, resamples=400, seed=seed) <= 0.05
        for seed in range(500)
    ]

    assert sum(found) / len(found) == pytest.approx(0.8, abs=0.05)


@pytest.mark.parametrize("function", [effect_size, least_gain])
def test_no_rows_are_an_error(function):
    with pytest.raises(DataError, match="no scores"):
        function([], [])


def test_holm_multiplies_the_smallest_by_all_and_never_falls():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.2]) == [0.2]
    assert holm([0.6, 0.7]) == [1.0, 1.0]


@given(st.lists(st.floats(0, 1), max_size=8), st.floats(0.001, 0.2))
def test_holm_rejects_what_stepping_down_rejects(p_values, level):
    ordered = sorted(p_values)
    steps = [p <= level / (len(ordered) - rank) for rank, p in enumerate(ordered)]
    rejected = steps.index(False) if False in steps else len(steps)

    # Rounding may part p <= level / k from k p <= level where they are equal.
    assert abs(sum(p <= level for p in holm(p_values)) - rejected) == 0 or any(
        math.isclose(p * k, level) for p in p_values for k in range(1, 9)
    )
