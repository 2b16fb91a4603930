from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sacrebleu.metrics import CHRF

from prlm_cli.core.errors import DataError
from prlm_cli.metrics.effects import effect_size, least_gain
from prlm_cli.metrics.intervals import share_interval
from prlm_cli.pipeline.compare import Counts, adjusted, compare, compare_all, compare_files
from tests.pipeline.sides import BASE, TARGET, generations

ANSWERS = st.none() | st.sampled_from([TARGET, "fix a leak", "net: leak", "something else"])


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
    assert one.effect_size == (None if other.effect_size is None else pytest.approx(-other.effect_size))
    assert (one.least_gain, one.p_holm) == (other.least_gain, other.p_holm)
    assert one.by_query == Counts(other.by_query.loss, other.by_query.tie, other.by_query.win)
    assert one.by_user == Counts(other.by_user.loss, other.by_user.tie, other.by_user.win)


def test_compare_all_reads_streams_once_for_all_metrics():
    a, b = generations(TARGET, None), generations(None, TARGET)

    results = compare_all(iter(a), iter(b), metrics=["rougeL", "length", "rougeL"])

    assert results == adjusted({"B": [compare(a, b, metric="rougeL"), compare(a, b, metric="length")]})["B"]


def test_compare_sets_the_difference_beside_the_spread_of_users():
    a = generations(TARGET, None, TARGET, "fix a leak", users=["u1", "u1", "u2", "u3"])
    b = generations(None, None, None, None, users=["u1", "u1", "u2", "u3"])
    differences = [1.0, 0.0, 1.0, 6 / 7]  # ROUGE-L of "fix a leak" to "net: fix a leak": 3 of 3 and 3 of 4 words

    result = compare(a, b)

    assert result.effect_size == pytest.approx(effect_size(differences, ["u1", "u1", "u2", "u3"]))
    assert result.least_gain == pytest.approx(least_gain(differences, ["u1", "u1", "u2", "u3"]))


def test_harm_is_the_share_of_users_whom_a_serves_worse():
    # u1 loses a query and wins one, u2 loses, u3 and u4 tie.
    users = ["u1", "u1", "u2", "u3", "u4"]
    a = generations(TARGET, None, None, None, None, users=users)
    b = generations(None, TARGET, TARGET, None, None, users=users)

    result = compare(a, b, metric="exact_match")

    assert result.by_user == Counts(win=0, tie=3, loss=1)
    assert result.harm == share_interval([0, 1, 0, 0], ["u1", "u2", "u3", "u4"])
    assert compare(a, b, metric="length").harm is None


def test_harm_is_in_higher_scores_where_lower_is_better():
    harmed = compare(generations(None, TARGET), generations(TARGET, TARGET), metric="extract_fail").harm

    assert harmed.mean == 0.5


def test_p_is_raised_for_all_comparisons_made_together():
    a, b, c = generations(*[TARGET] * 12), generations(*[None] * 12), generations(*["fix a leak"] * 12)
    one, other = compare(a, b), compare(a, c, metric="exact_match")

    together = adjusted({"b": [one, one], "c": [other]})

    assert one.p == one.p_holm == other.p
    assert [comparison.p_holm for of in together.values() for comparison in of] == [min(1.0, 3 * one.p)] * 3
    assert together["b"][0].p == one.p


def test_compare_averages_the_seeds_of_a_query():
    pooled = [*generations(TARGET, "fix a leak"), *generations(None, "fix a leak", seed=1)]
    b = generations(None, TARGET)

    result = compare(pooled, b, metric="exact_match")

    assert (result.mean_a, result.mean_b, result.difference.mean) == (0.25, 0.5, -0.25)
    assert (result.difference.n, result.difference.users) == (2, 2)
    assert (result.generations_a, result.generations_b) == (4, 2)


def test_seeds_that_scored_alike_change_nothing():
    a, b = generations(TARGET, "fix a leak", None), generations("net: leak", TARGET, TARGET)
    thrice = [record for seed in range(3) for record in generations("net: leak", TARGET, TARGET, seed=seed)]

    once, pooled = compare(a, b), compare(a, thrice)

    assert msgspec.structs.replace(pooled, generations_b=3) == once


@pytest.fixture
def write(write_jsonl):
    """Writes generations to a file."""
    return lambda name, records: write_jsonl(msgspec.to_builtins(records), name)


def test_compare_files_reads_names_with_commas_as_the_seeds_of_one_side(write):
    first = write("first.jsonl", generations(TARGET, TARGET))
    second = write("second.jsonl", generations(TARGET, None, seed=1))
    b = write("b.jsonl", generations(None, None))
    joined = Path(f"{first},{second}")

    found = compare_files(joined, [b, joined], metrics=["exact_match"])

    assert found[b].comparisons[0].mean_a == 0.75
    assert found[joined].comparisons[0].generations_b == 4
    assert found[b].comparisons[0].p_holm == min(1.0, 2 * found[b].comparisons[0].p)
    assert [user.user_id for user in found[b].users("exact_match")] == ["u0", "u1"]


def test_compare_files_reads_each_other_file_once_and_standard_input_once(write):
    a = write("a.jsonl", generations(TARGET))

    assert list(compare_files(a, [a, a], metrics=["rougeL"])) == [a]
    with pytest.raises(DataError, match="standard input is named twice"):
        compare_files(a, [Path("-"), Path(f"{a},-")], metrics=["rougeL"])


def test_compare_holds_the_values_of_a_metric_of_the_whole_set_against_each_other():
    answers = {"a": ["net: fix a leak now", "a leak", "net: fix"], "b": ["fix it", "net: a leak", "x"]}
    a, b = (generations(*answers[side]) for side in answers)

    found = compare(a, b, metric="chrf", resamples=200)

    expected = [CHRF().corpus_score(of, [[TARGET] * 3]).score for of in answers.values()]
    assert [found.mean_a, found.mean_b] == pytest.approx(expected)
    assert found.difference.mean == pytest.approx(expected[0] - expected[1])
    assert found.difference.low <= found.difference.mean <= found.difference.high
