import numpy as np
import pytest
from sklearn.metrics import mean_absolute_error, root_mean_squared_error

from prlm_cli.metrics import METRICS
from tests.metrics.generations import answered

ANSWERS, TARGETS = ["4", " 2.5\n", "1", "5"], ["5", "3", "1", "2"]


def rated(answer, target="4"):
    return answered(answer, target, "LaMP_3")


def test_errors_equal_scikit_learns():
    numbers = [[float(text) for text in texts] for texts in (TARGETS, ANSWERS)]
    rows = [rated(*pair) for pair in zip(ANSWERS, TARGETS, strict=True)]
    rmse = METRICS["rmse"]

    assert np.mean([METRICS["mae"](row) for row in rows]) == pytest.approx(mean_absolute_error(*numbers))
    assert rmse.value(np.sum([rmse.statistics(row) for row in rows], axis=0)) == pytest.approx(
        root_mean_squared_error(*numbers)
    )


@pytest.mark.parametrize(("target", "error"), [("1", 4.0), ("2", 3.0), ("3", 2.0), ("4", 3.0), ("5", 4.0)])
@pytest.mark.parametrize("answer", [None, "", "good", "nan", "inf", "4 stars"], ids=str)
def test_an_answer_that_is_no_number_is_as_far_off_as_the_farther_end(answer, target, error):
    assert METRICS["mae"](rated(answer, target)) == METRICS["rmse"](rated(answer, target)) == error


@pytest.mark.parametrize("name", ["mae", "rmse"])
def test_errors_do_not_apply_without_a_rating(name):
    assert METRICS[name](answered("4", "4", "LaMP_5")) is None
    assert METRICS[name](rated("4", None)) is None
    assert METRICS[name](rated("4", "a title")) is None
