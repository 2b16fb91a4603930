"""Whether a classifier of the user's titles against other users' recognises the answer."""

from __future__ import annotations

from collections.abc import Sequence

from prlm_cli.core.errors import SettingsError
from prlm_cli.core.records import Retrieved
from prlm_cli.models.authorship import AuthorClassifier
from prlm_cli.rewards import RewardContext

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
        rewards: list[float | None] = [None] * len(completions)
        rows: dict[str, list[int]] = {}
        for row, query in enumerate(queries):
            rows.setdefault(query.query_id, []).append(row)
        for group in rows.values():
            if classifier := self._classifier(queries[group[0]]):
                for row in group:
                    rewards[row] = self._score(completions[row], classifier)
        return rewards

    def _classifier(self, query: Retrieved) -> AuthorClassifier | None:
        own, others = self._titles(query)
        return AuthorClassifier(own, others) if len(own) >= MIN_TITLES and others else None

    def _score(self, completion: str, classifier: AuthorClassifier) -> float:
        answer = self._builder.parse(completion).answer
        return 0.0 if answer is None else classifier.probability(answer)
