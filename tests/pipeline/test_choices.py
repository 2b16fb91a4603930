from __future__ import annotations

import pytest

from prlm_cli.pipeline.choices import MultipleChoice, choose
from tests.pipeline.scripted import Scripted, first, longest


def _questions(n=1, values=None):
    options = ["a", "bbb", "cc", "d"]
    return [MultipleChoice(f"q{i}", f"u{i}", "request", options, gold=1, values=values) for i in range(n)]


def test_a_chooser_of_content_is_right_in_every_order():
    (found,) = choose(Scripted(longest), _questions(), orders=4)

    assert (found.picks, found.accuracy, found.consistency) == ([1, 1, 1, 1], 1, 1)


def test_a_chooser_of_places_is_right_as_often_as_chance_over_all_orders():
    found = choose(Scripted(first), _questions(50), orders=0)

    assert {one.accuracy for one in found} == {0.25}
    assert {one.consistency for one in found} == {0.25}


def test_orders_hang_on_the_seed_and_the_question_alone():
    def shown(seed, questions):
        chooser = Scripted(first)
        choose(chooser, questions, orders=3, seed=seed)
        return {question.key: tuple(question.options) for question in chooser.questions}

    many, few = shown(1, _questions(20)), shown(1, _questions(20)[5:6])

    assert few.items() <= many.items()
    assert many != shown(2, _questions(20))
    assert all(sorted(options) == ["a", "bbb", "cc", "d"] for options in many.values())


def test_unread_choices_are_wrong_and_worth_the_mean():
    (found,) = choose(Scripted(lambda question: None), _questions(values=[0, 4, 0, 0]), orders=2)

    assert (found.accuracy, found.consistency, found.unread) == (0, 0, 1)
    assert found.regret == pytest.approx(3)


def test_the_best_option_has_no_regret():
    (found,) = choose(Scripted(longest), _questions(values=[0, 4, 0, 0]), orders=2)

    assert found.regret == 0
    assert choose(Scripted(longest), _questions(), orders=1)[0].regret is None
