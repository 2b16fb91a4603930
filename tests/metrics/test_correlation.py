from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prlm_cli.metrics.correlation import kendall, spearman

stats = pytest.importorskip("scipy.stats", reason="NOT RUN: scipy is the oracle")

_FEW = st.integers(-3, 3)  # ties are what goes wrong
_PAIRS = st.lists(st.tuples(_FEW, _FEW), min_size=2, max_size=30)


def _varies(rows):
    return all(len(set(column)) > 1 for column in zip(*rows, strict=True))


@given(_PAIRS.filter(_varies))
def test_both_agree_with_scipy_where_there_are_ties(rows):
    a, b = zip(*rows, strict=True)

    assert spearman(a, b) == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-12)
    assert kendall(a, b) == pytest.approx(stats.kendalltau(a, b, variant="b").statistic, abs=1e-12)


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
