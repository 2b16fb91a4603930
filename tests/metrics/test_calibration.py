from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prlm_cli.metrics.calibration import BINS, calibration, sigmoid

_MARGINS = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50)


def test_three_of_four_right_at_a_confidence_of_three_quarters_is_no_error():
    even = math.log(3)  # sigmoid: 3/4

    found = calibration([even, even, even, -even], 1.0)

    assert found.ece == pytest.approx(0)
    assert [(b.low, b.n, b.accuracy) for b in found.bins if b.n] == [(0.75, 4, 0.75)]


@pytest.mark.parametrize(
    ("margins", "temperature", "ece"),
    [
        ([math.log(3)] * 4, 1.0, 0.25),  # always right, and only three quarters sure
        ([-math.log(3)] * 4, 1.0, 0.75),  # always wrong
        ([2 * math.log(3)] * 4, 2.0, 0.25),
        ([0.0] * 4, 1.0, 0.0),  # a coin that knows that it is one
        ([1e9], 1.0, 0.0),
        ([math.log(3), -1e9], 1.0, 0.625),
    ],
)
def test_the_error_is_the_mean_gap_of_the_bins(margins, temperature, ece):
    assert calibration(margins, temperature).ece == pytest.approx(ece)


@given(_MARGINS, st.floats(0.01, 100))
def test_every_pair_is_in_the_bin_of_its_confidence(margins, temperature):
    found = calibration(margins, temperature)

    assert len(found.bins) == BINS
    assert sum(b.n for b in found.bins) == len(margins)
    assert 0 <= found.ece <= 1
    for b in found.bins:
        assert (b.confidence is None) == (b.n == 0)
        assert b.confidence is None or b.low - 1e-12 <= b.confidence <= b.high + 1e-12


@given(_MARGINS)
def test_margins_of_the_other_sign_are_wrong_where_these_are_right(margins):
    ours, theirs = calibration(margins, 1.0), calibration([-m for m in margins], 1.0)

    for a, b in zip(ours.bins, theirs.bins, strict=True):
        assert a.confidence == b.confidence
        assert a.accuracy is None or a.accuracy == pytest.approx(1 - b.accuracy)


def test_margins_that_mean_what_they_say_are_calibrated():
    rng = random.Random(0)
    strengths = [rng.uniform(0, 4) for _ in range(20_000)]
    margins = [m if rng.random() < sigmoid(m) else -m for m in strengths]

    assert calibration(margins, 1.0).ece < 0.01
    assert calibration(margins, 4.0).ece > 0.1


@given(st.floats(allow_nan=False))
def test_the_sigmoid_takes_any_number(x):
    assert 0 <= sigmoid(x) <= 1
    assert sigmoid(-x) == pytest.approx(1 - sigmoid(x))
