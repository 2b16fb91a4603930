"""The simulations behind the coverage of intervals: their truths are true, and their figures can be wrong."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.bench.evaluation_parts import intervals
from tests.bench.evaluation_parts.intervals import add_intervals
from tests.bench.figures import Figures


def test_the_figures_are_shares_near_their_aims():
    figures = Figures()

    add_intervals(figures, draws=60)

    assert "coverage" in figures
    assert "false_positive_rate" in figures
    assert figures["coverage"] == pytest.approx(0.95, abs=0.09)
    assert figures["false_positive_rate"] == pytest.approx(0.05, abs=0.09)


@pytest.mark.parametrize("name", list(intervals._HARDER))
def test_the_truth_of_a_simulation_is_what_many_of_its_rows_average_to(name):
    simulate, truth = intervals._HARDER[name]
    rows = [value for draw in range(400) for value in simulate(np.random.default_rng(draw)).values]

    assert np.mean(rows) == pytest.approx(truth, rel=0.05)


def test_normal_rows_have_the_effect_and_the_spread_that_they_are_simulated_with():
    simulate = intervals._NORMAL["_40_users"]
    rows = [value for draw in range(400) for value in simulate(np.random.default_rng(draw)).values]

    assert np.mean(rows) == pytest.approx(0.3, abs=0.03)
    assert np.std(rows) == pytest.approx(math.sqrt(1.25), rel=0.03)


def test_an_interval_around_another_truth_is_not_said_to_cover():
    interval_of = intervals._difference(intervals._NORMAL["_40_users"])

    assert intervals._coverage(interval_of, 100, truth=1.3) < 0.1
