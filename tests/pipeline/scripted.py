"""Choosers that follow a rule, in the place of a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from prlm_cli.pipeline.choosers import Question


class Scripted:
    """A chooser by rule; it keeps the questions."""

    def __init__(self, rule: Callable[[Question], int | None], name: str = "scripted") -> None:
        self.name = name
        self._rule = rule
        self.questions: list[Question] = []

    def choose(self, questions: Sequence[Question]) -> list[int | None]:
        self.questions += questions
        return [self._rule(question) for question in questions]


def longest(question: Question) -> int:
    """The longest option."""
    return max(range(len(question.options)), key=lambda n: len(question.options[n]))


def first(question: Question) -> int:
    """Whatever stands first."""
    return 0
