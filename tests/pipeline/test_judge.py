from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prlm_cli.core.errors import DataError
from prlm_cli.pipeline.judge import Judged, Rivals, judge, judge_figures
from tests.pipeline.scripted import Scripted, first, longest


def _rivals(a="long answer", b="short", n=1):
    return [Rivals(f"q{i}", f"u{i % 3}", "request", a, b, preference="p") for i in range(n)]


def test_each_pair_is_asked_in_both_orders():
    judge_ = Scripted(first)

    judge(judge_, _rivals())

    assert [q.options for q in judge_.questions] == [("long answer", "short"), ("short", "long answer")]
    assert {q.preference for q in judge_.questions} == {"p"} and len({q.key for q in judge_.questions}) == 2


def test_a_judge_of_content_wins_and_one_of_places_only_ties():
    by_content, by_place = (judge_figures(judge(Scripted(rule), _rivals(n=9))) for rule in (longest, first))

    assert (by_content.win.mean, by_content.consistent.mean, by_content.first_place.mean) == (1, 1, 0.5)
    assert (by_place.tie.mean, by_place.consistent.mean, by_place.first_place.mean) == (1, 0, 1)
    assert (by_content.net.mean, by_place.net.mean) == (1, 0)


def test_a_choice_that_cannot_be_read_makes_a_tie_and_is_counted():
    figures = judge_figures(judge(Scripted(lambda question: None), _rivals(n=4)))

    assert (figures.tie.mean, figures.unread.mean, figures.first_place) == (1, 1, None)


def test_equal_answers_are_a_tie_without_being_asked():
    judge_ = Scripted(first)
    judged = judge(judge_, [*_rivals("same", "same"), *_rivals()])

    assert [one.verdict for one in judged] == ["tie", "tie"] and len(judge_.questions) == 2
    assert judge_figures(judged[:1]).consistent is None


def test_no_verdicts_have_no_figures():
    with pytest.raises(DataError):
        judge_figures([])


@given(st.lists(st.tuples(st.sampled_from([0, 1, None]), st.sampled_from([0, 1, None])), min_size=1))
def test_swapping_the_answers_swaps_the_verdicts_and_keeps_the_bias(places):
    judged = [Judged(pair, *of) for pair, of in zip(_rivals(n=len(places)), places, strict=True)]
    swapped = [Judged(one.rivals._replace(a=one.rivals.b, b=one.rivals.a), one.b_first, one.a_first) for one in judged]
    figures, other = judge_figures(judged), judge_figures(swapped)

    assert (figures.win, figures.loss, figures.tie) == (other.loss, other.win, other.tie)
    assert (figures.first_place is None) == (other.first_place is None)
    if figures.first_place and other.first_place:
        assert figures.first_place.mean == pytest.approx(other.first_place.mean)
    assert figures.win.mean + figures.tie.mean + figures.loss.mean == pytest.approx(1)
