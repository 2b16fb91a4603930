from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prlm_cli.core import jsonl
from prlm_cli.core.settings import EvalSettings
from prlm_cli.pipeline.aligned import align
from prlm_cli.pipeline.evaluate import score_generations
from prlm_cli.pipeline.report_examples import (
    best_and_worst,
    most_different,
    paired_examples,
    single_examples,
    user_names,
)
from prlm_cli.pipeline.second_pass import Generations
from tests.pipeline.generations import TARGET, document, generation

_SCORES = st.dictionaries(st.integers(0, 500), st.floats(-1, 1), min_size=1, max_size=90)
VALUES = dict(enumerate([0.0, 1.0, 0.5, 0.25, 0.75]))


def _rows(chosen, group):
    return [row for row, groups in chosen.items() if group in groups]


def test_best_and_worst_follow_the_metric():
    higher, lower = best_and_worst(VALUES, 1, seed=0), best_and_worst(VALUES, -1, seed=0)

    assert (_rows(higher, "best"), sorted(_rows(higher, "worst"))) == ([1, 4], [0, 3])
    assert (sorted(_rows(lower, "best")), sorted(_rows(lower, "worst"))) == ([0, 3], [1, 4])
    assert sorted(_rows(higher, "random")) == [0, 1, 2, 3, 4]


def test_where_neither_end_is_better_they_are_highest_and_lowest():
    assert _rows(best_and_worst(VALUES, 0, seed=0), "highest") == [1, 4]
    assert _rows(most_different({0: 0.5, 1: -0.5}, 0, seed=0, count=5), "lowest") == [1]


def test_differences_have_those_that_gained_lost_and_changed_most():
    chosen = most_different({0: 0.1, 1: -0.9, 2: 0.0, 3: 0.5, 4: -0.2}, 1, seed=0, count=2)

    assert (_rows(chosen, "best"), sorted(_rows(chosen, "worst"))) == ([3, 0], [1, 4])
    assert sorted(_rows(chosen, "most changed")) == [1, 3]
    assert len(_rows(chosen, "random")) == 2


def test_nothing_that_stayed_the_same_is_best_worst_or_changed():
    chosen = most_different({0: 0.0, 1: 0.0}, 1, seed=0, count=5)

    assert set().union(*chosen.values()) == {"random"}


@given(_SCORES, st.sampled_from([-1, 0, 1]), st.integers(0))
def test_few_are_chosen_and_the_same_for_the_same_seed(values, better, seed):
    for choose in (best_and_worst, lambda *arguments, seed: most_different(*arguments, seed, 10)):
        chosen = choose(values, better, seed=seed)
        assert chosen == choose(values, better, seed=seed)
        assert set(chosen) <= set(values)
        sizes = {reason: len(_rows(chosen, reason)) for reasons in chosen.values() for reason in reasons}
        assert max(sizes.values()) <= 10
        assert sizes["random"] == min(10, len(values))


def test_users_are_numbered_as_they_come_or_named():
    ids = ["zoe", "ada", "zoe", "ben"]

    assert user_names(ids, EvalSettings()) == {"zoe": "user 1", "ada": "user 2", "ben": "user 3"}
    assert user_names(ids, EvalSettings(report_users="ids"))["zoe"] == "zoe"


@pytest.fixture
def scored(tmp_path):
    def score(records, name="a.jsonl", metric="rougeL"):
        jsonl.write(tmp_path / name, records)
        source = Generations(tmp_path / name)
        return score_generations(source, [metric]), source

    return score


def test_an_example_shows_query_records_answer_and_reasoning(scored):
    records = [generation(0), generation(1, answer="fix", reasoning="why", profile=[document("past text")])]

    (example,) = single_examples({1: ["worst"]}, *scored(records), "rougeL", {"u0": "user 1", "u1": "user 2"})

    assert (example.user, example.query, example.target) == ("user 2", "a text", TARGET)
    assert (example.records, example.groups, example.outcome) == (["past text"], ["worst"], "")
    assert [(side.answer, side.reasoning) for side in example.sides] == [("fix", "why")]
    assert f"rougeL {example.difference:.4f}" == example.sides[0].score


@pytest.mark.parametrize("metric, outcome", [("rougeL", "loss"), ("extract_fail", "loss"), ("length", "lower")])
def test_two_answers_are_set_side_by_side_whatever_their_order_in_the_files(scored, metric, outcome):
    a, source_a = scored([generation(0, answer="other"), generation(1, answer=None)], "a.jsonl", metric)
    b, source_b = scored([generation(1), generation(0)], "b.jsonl", metric)
    aligned = align(a, b)
    (_, query) = aligned.by_query(metric)

    (example,) = paired_examples(
        {query: ["worst"]}, aligned, (source_a, source_b), metric, {"u0": "user 1", "u1": "user 2"}
    )

    assert (example.user, [side.answer for side in example.sides]) == ("user 2", [None, TARGET])
    assert (example.outcome, example.difference) == (outcome, query.difference)
