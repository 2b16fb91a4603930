from __future__ import annotations

import random
from itertools import combinations, pairwise, permutations
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prlm_cli.metrics.best_of import doublings, expected_best

_CANDIDATES = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 3)), min_size=1, max_size=6)


def _by_brute_force(values, scores, n):
    """The mean over all draws of n, with every order of the drawn among which the first of the best is taken."""
    found = []
    for drawn in combinations(range(len(values)), n):
        firsts = [max(order, key=lambda at: scores[at]) for order in permutations(drawn)]
        found.append(mean(values[first] for first in firsts))
    return mean(found)


@given(_CANDIDATES, st.data())
def test_the_expectation_is_that_of_all_draws(candidates, data):
    values, scores = zip(*candidates, strict=True)
    n = data.draw(st.integers(1, len(values)))

    assert expected_best(values, scores, n) == pytest.approx(_by_brute_force(values, scores, n))


@given(_CANDIDATES)
def test_the_best_of_one_is_a_random_choice_and_that_of_all_the_best_scored(candidates):
    values, scores = zip(*candidates, strict=True)

    assert expected_best(values, scores, 1) == pytest.approx(mean(values))
    top = [value for value, score in candidates if score == max(scores)]
    assert expected_best(values, scores, len(values)) == pytest.approx(mean(top))


@given(_CANDIDATES)
def test_what_is_chosen_by_itself_never_falls_with_more_to_choose_from(candidates):
    values = [value for value, _ in candidates]
    curve = [expected_best(values, values, n) for n in range(1, len(values) + 1)]

    assert all(b >= a - 1e-12 for a, b in pairwise(curve))
    assert curve[-1] == pytest.approx(max(values))


def test_the_worst_score_of_all_counts_for_what_cannot_be_read():
    assert expected_best([9.0, 1.0, 2.0], [float("-inf"), 0.0, 1.0], 3) == 2.0


def test_many_candidates_are_counted_exactly():
    values = [random.Random(0).random() for _ in range(64)]

    assert expected_best(values, values, 63) == pytest.approx(
        sum(sorted(values)[-2:][::-1][at] * share for at, share in enumerate((63 / 64, 1 / 64)))
    )


@pytest.mark.parametrize(("count", "found"), [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8])])
def test_the_steps_of_the_curve_double_and_end_with_all(count, found):
    assert doublings(count) == found
