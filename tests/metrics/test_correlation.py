from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prlm_cli.metrics.correlation import kendall, spearman

_FEW = st.integers(-3, 3)  # ties are what goes wrong
_PAIRS = st.lists(st.tuples(_FEW, _FEW), min_size=2, max_size=30)


def _varies(rows):
    return all(len(set(column)) > 1 for column in zip(*rows, strict=True))


@given(_PAIRS.filter(_varies))
def test_kendall_is_tau_b_by_its_definition(rows):
    steps = [(sign(x - u), sign(y - v)) for n, (x, y) in enumerate(rows) for u, v in rows[:n]]
    together = sum(x * y for x, y in steps)
    apart = math.sqrt(sum(x != 0 for x, _ in steps) * sum(y != 0 for _, y in steps))

    assert kendall(*zip(*rows, strict=True)) == pytest.approx(together / apart, abs=1e-12)


def test_equal_numbers_share_the_mean_of_their_ranks():
    assert spearman([1, 2, 2, 4], [10, 20, 30, 40]) == pytest.approx(0.9486832980505138)


def sign(x):
    return (x > 0) - (x < 0)


@pytest.mark.parametrize("correlation", [spearman, kendall])
@given(rows=_PAIRS.filter(_varies))
def test_a_correlation_is_symmetric_and_turns_its_sign_with_either_side(correlation, rows):
    a, b = zip(*rows, strict=True)
    found = correlation(a, b)

    assert -1 <= found <= 1
    assert correlation(b, a) == pytest.approx(found)
    assert correlation([-x for x in a], b) == pytest.approx(-found)
    assert correlation([x**3 for x in a], b) == found  # only the order counts


@pytest.mark.parametrize("correlation", [spearman, kendall])
@pytest.mark.parametrize(("a", "b"), [([], []), ([1], [2]), ([1, 1], [1, 2]), ([1, 2], [3, 3])])
def test_what_does_not_vary_has_no_correlation(correlation, a, b):
    assert correlation(a, b) is None
