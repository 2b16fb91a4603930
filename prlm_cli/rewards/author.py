"""Whether a classifier of the user's titles against other users' recognises the answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from prlm_cli.core.errors import SettingsError
from prlm_cli.core.records import Query, Retrieved
from prlm_cli.models.authorship import AuthorClassifier
from prlm_cli.rewards import RewardContext, Titles, asker

MIN_TITLES = 4
"""Fewer titles of a user teach a classifier the titles and not the user."""


class Author:
    """The probability that the answer is the user's and not another user's, in [0, 1]; 0 where no answer can be read.

    Each query has a linear classifier of its own, taught on titles older than the query. It does not apply where the
    user has fewer than `MIN_TITLES` of them, or nobody else has any. Other users' titles reach the weights of the
    classifier and nothing else: no prompt and no file, and the weights go with the batch.

    Raises:
        SettingsError: Where the users' histories are not at hand.
    """

    def __init__(self, context: RewardContext) -> None:
        if context.titles is None:
            raise SettingsError("the reward 'author' needs the users' histories", hint="use it in `prlm train-policy`")
        self._builder = context.builder
        self._titles = context.titles

    def __call__(self, *, completions: Sequence[str], queries: Sequence[Retrieved]) -> list[float | None]:
        """One reward a completion."""
        return recognised([self._builder.parse(text).answer for text in completions], queries, self._titles)


def recognised(
    answers: Sequence[str | None], queries: Sequence[Query], titles: Callable[[Query], Titles]
) -> list[float | None]:
    """How surely each answer is its user's, in the order of the answers; see `Author`.

    Args:
        answers: None where none could be read.
        queries: That of each answer; all answers to one are judged by one classifier.
        titles: What the classifier of a query learns from.
    """
    found: list[float | None] = [None] * len(answers)
    rows: dict[tuple[object, ...], list[int]] = {}
    for row, query in enumerate(queries):
        rows.setdefault(asker(query), []).append(row)
    for group in rows.values():
        own, others = titles(queries[group[0]])
        if len(own) >= MIN_TITLES and others:
            classifier = AuthorClassifier(own, others)
            for row in group:
                answer = (answers[row] or "").strip()
                found[row] = classifier.probability(answer) if answer else 0.0
    return found
