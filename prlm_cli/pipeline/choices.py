"""Multiple choice: each question asked with its options in several seeded orders, since models prefer a letter."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from prlm_cli.core.records import ProfileDocument
from prlm_cli.pipeline.choosers import Chooser, Question


class MultipleChoice(NamedTuple):
    """A query with options; `gold` is the place of the right one, and `values` what each is worth, where known."""

    query_id: str
    user_id: str
    text: str
    options: Sequence[str]
    gold: int
    profile: Sequence[ProfileDocument] = ()
    values: Sequence[float] | None = None


class Chosen(NamedTuple):
    """The place of the option chosen in each order, as the question numbers them; None if none could be read."""

    question: MultipleChoice
    picks: Sequence[int | None]

    @property
    def accuracy(self) -> float:
        """The share of orders in which the right option was chosen."""
        return sum(pick == self.question.gold for pick in self.picks) / len(self.picks)

    @property
    def consistency(self) -> float:
        """The share of orders that agree on the option chosen most often; unread ones agree with nothing."""
        counts = Counter(pick for pick in self.picks if pick is not None)
        return max(counts.values(), default=0) / len(self.picks)

    @property
    def unread(self) -> float:
        """The share of orders in which no choice could be read."""
        return sum(pick is None for pick in self.picks) / len(self.picks)

    @property
    def regret(self) -> float | None:
        """By how much the best option is worth more than the chosen one; an unread choice is worth the mean."""
        values = self.question.values
        if values is None:
            return None
        worth = [_mean(values) if pick is None else values[pick] for pick in self.picks]
        return max(values) - _mean(worth)


def choose(chooser: Chooser, questions: Sequence[MultipleChoice], *, orders: int = 0, seed: int = 0) -> list[Chosen]:
    """What is chosen in each order of the options.

    Args:
        chooser: Who chooses.
        questions: What is asked.
        orders: How many of each; 0 for as many as it has options. Then each option has each letter once, and whoever
            only ever says one letter is right exactly as often as chance.
        seed: Of the orders, which hang on it and on the question's id alone.
    """
    shown = [_orders(question, orders or len(question.options), seed) for question in questions]
    asked = [
        Question(
            key=f"{question.query_id}#{number}",
            text=question.text,
            options=[question.options[place] for place in order],
            profile=question.profile,
        )
        for question, of in zip(questions, shown, strict=True)
        for number, order in enumerate(of)
    ]
    places = iter(chooser.choose(asked))
    return [
        Chosen(question, [None if (place := next(places)) is None else order[place] for order in of])
        for question, of in zip(questions, shown, strict=True)
    ]


def _orders(question: MultipleChoice, orders: int, seed: int) -> list[list[int]]:
    """Seeded orders; each is the one before turned by one place, so that the right option changes its letter."""
    places = list(range(len(question.options)))
    random.Random(f"options:{seed}:{question.query_id}").shuffle(places)
    return [places[n % len(places) :] + places[: n % len(places)] for n in range(orders)]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
