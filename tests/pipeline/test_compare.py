import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prlm_cli.core.errors import DataError, RefusedError, SettingsError
from prlm_cli.core.records import Generation
from prlm_cli.pipeline.compare import Counts, check, compare, compare_all, meets, parse_requirement

TARGET = "net: fix a leak"
BASE = Generation(
    query_id="q1", user_id="u1", text="a text", target=TARGET, profile=[], retriever="bm25",
    completion="c", reasoning=None, answer=TARGET, policy="p", seed=0,
)  # fmt: skip
ANSWERS = st.none() | st.sampled_from([TARGET, "fix a leak", "net: leak", "something else"])


def generations(*answers, users=None, start=0):
    """One generation an answer: query q0 of user u0, and so on."""
    owners = users or [f"u{n}" for n in range(start, start + len(answers))]
    return [
        msgspec.structs.replace(BASE, query_id=f"q{n}", user_id=user, answer=answer)
        for n, (answer, user) in enumerate(zip(answers, owners, strict=True), start=start)
    ]


def test_compare_takes_a_minus_b_over_pairs():
    a = generations(TARGET, TARGET, None, "fix a leak", users=["u1", "u1", "u2", "u3"])
    b = generations(TARGET, None, None, TARGET, users=["u1", "u1", "u2", "u3"])

    result = compare(a, b, metric="exact_match")

    assert (result.mean_a, result.mean_b, result.difference.mean) == (0.5, 0.5, 0.0)
    assert (result.difference.n, result.difference.users) == (4, 3)
    assert (result.by_query, result.by_user) == (Counts(1, 2, 1), Counts(1, 1, 1))


def test_compare_counts_a_lower_score_as_a_win_where_lower_is_better():
    result = compare(generations(TARGET, None), generations(None, None), metric="extract_fail")

    assert result.difference.mean == -0.5
    assert result.by_query == Counts(win=1, tie=1, loss=0)


def test_compare_names_no_winner_where_neither_end_is_better():
    result = compare(generations("one"), generations("one two"), metric="length")

    assert (result.difference.mean, result.by_query, result.by_user) == (-1.0, None, None)


def test_compare_joins_by_query_id_in_any_order():
    a, b = generations(TARGET, "fix a leak", None), generations("net: leak", None, None)

    assert compare(a, list(reversed(b))) == compare(a, b)


def test_compare_leaves_out_and_counts_what_only_one_answered():
    result = compare(generations(TARGET, TARGET, TARGET), generations(TARGET, TARGET, start=2))

    assert (result.difference.n, result.only_a, result.only_b) == (1, 2, 1)


def test_compare_leaves_out_and_counts_what_the_metric_does_not_apply_to():
    a, b = ([*generations(TARGET), msgspec.structs.replace(BASE, query_id="q9", target=None)] for _ in range(2))

    result = compare(a, b)

    assert (result.difference.n, result.not_applicable) == (1, 1)


def test_compare_sees_a_clear_difference():
    a, b = generations(*[TARGET] * 30), generations(*["fix a leak"] * 15, *[None] * 15)

    result = compare(a, b)

    assert result.difference.low > 0
    assert result.p < 0.01


def test_compare_finds_nothing_between_equals():
    a = generations(TARGET, "fix a leak", None)

    result = compare(a, a)

    assert (result.difference.mean, result.difference.low, result.difference.high, result.p) == (0.0, 0.0, 0.0, 1.0)


@given(st.lists(st.tuples(ANSWERS, ANSWERS, st.sampled_from(["u1", "u2", "u3", "u4"])), min_size=1, max_size=12))
def test_compare_of_a_and_b_is_the_negative_of_b_and_a(rows):
    answers_a, answers_b, users = zip(*rows, strict=True)
    a, b = generations(*answers_a, users=users), generations(*answers_b, users=users)
    one, other = compare(a, b, resamples=100), compare(b, a, resamples=100)

    assert one.difference.mean == -other.difference.mean
    assert (one.difference.low, one.difference.high) == (-other.difference.high, -other.difference.low)
    assert (one.mean_a, one.mean_b, one.p) == (other.mean_b, other.mean_a, other.p)
    assert one.by_query == Counts(other.by_query.loss, other.by_query.tie, other.by_query.win)
    assert one.by_user == Counts(other.by_user.loss, other.by_user.tie, other.by_user.win)


def test_compare_all_reads_streams_once_for_all_metrics():
    a, b = generations(TARGET, None), generations(None, TARGET)

    results = compare_all(iter(a), iter(b), metrics=["rougeL", "rouge1", "rougeL"])

    assert results == [compare(a, b, metric="rougeL"), compare(a, b, metric="rouge1")]


@pytest.mark.parametrize(
    "a, b, message",
    [
        ([], generations(TARGET), "A holds no generations"),
        (generations(TARGET), [], "B holds no generations"),
        (generations(TARGET) * 2, generations(TARGET), "A holds query 'q0' twice"),
        (
            generations(TARGET, TARGET),
            generations(TARGET, start=5),
            r"A and B share no query: A holds 2 \('q0', ...\), B 1 \('q5', ...\)",
        ),
        (generations(TARGET), generations(TARGET, users=["u7"]), "query 'q0' is of user 'u0' in A, of 'u7' in B"),
        (
            [msgspec.structs.replace(BASE, target=None)],
            [BASE],
            "metric 'rougeL' applies to none of the 1 common queries",
        ),
    ],
    ids=["empty-a", "empty-b", "repeated", "nothing-in-common", "other-user", "no-target"],
)
def test_compare_refuses_what_cannot_be_paired(a, b, message):
    with pytest.raises(DataError, match=message):
        compare(a, b)


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
