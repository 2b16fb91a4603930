import math

import pytest

from prlm_cli.core.errors import RefusedError, SettingsError
from prlm_cli.pipeline.compare import compare, compare_all
from prlm_cli.pipeline.requirements import check, meets, parse_requirement
from tests.pipeline.sides import TARGET, generations


@pytest.mark.parametrize(
    "text, expected",
    [
        ("rougeL>=+0.01", ("rougeL", ">=", 0.01)),
        ("rougeL>=-.5", ("rougeL", ">=", -0.5)),
        (" extract_fail <= 1e-3 ", ("extract_fail", "<=", 0.001)),
        ("rouge1>=0", ("rouge1", ">=", 0.0)),
    ],
)
def test_parse_requirement_reads_metric_sign_and_number(text, expected):
    assert parse_requirement(text) == expected


@pytest.mark.parametrize(
    "text, message",
    [
        ("rougeL", "not METRIC>=NUMBER"),
        ("rougeL>0.1", "not METRIC>=NUMBER"),
        ("rougeL>=nan", "not METRIC>=NUMBER"),
        (">=0.1", "not METRIC>=NUMBER"),
        ("rougeX>=0.1", "no metric 'rougeX'; did you mean rouge"),
    ],
    ids=["bare", "strict", "nan", "no-metric", "unknown"],
)
def test_parse_requirement_refuses_anything_else(text, message):
    with pytest.raises(SettingsError, match=message):
        parse_requirement(text)


def test_meets_looks_at_the_near_end_of_the_interval():
    better = compare(generations(*[TARGET] * 9, None), generations(*[None] * 10))
    difference = better.difference

    assert difference.low < difference.mean < difference.high
    assert meets(f"rougeL>={difference.low}", better)
    assert not meets(f"rougeL>={difference.mean}", better)
    assert meets(f"rougeL<={difference.high}", better)
    assert not meets(f"rougeL<={difference.mean}", better)


def test_one_user_meets_no_requirement():
    alone = compare(generations(TARGET), generations(None))

    assert alone.difference.low == -math.inf
    assert not meets("rougeL>=0", alone)
    assert not meets("rougeL<=2", alone)


def test_meets_refuses_a_requirement_on_another_metric():
    with pytest.raises(SettingsError, match="'rouge1>=0' is not about rougeL"):
        meets("rouge1>=0", compare(generations(TARGET), generations(TARGET)))


def test_check_passes_over_other_metrics_and_says_which_requirement_fails():
    comparisons = compare_all(generations(TARGET, TARGET), generations(None, TARGET), metrics=["rougeL", "length"])

    check(["rougeL>=0", "length>=0"], comparisons)
    with pytest.raises(RefusedError, match=r"rougeL>=\+0.6 is not met: A - B is \+0.5000, its 95 % interval \["):
        check(["rougeL>=+0.6"], comparisons)
