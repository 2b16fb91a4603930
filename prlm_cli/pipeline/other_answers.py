"""Another user's answer to each training query: what that user wrote to what is most like it.

Only the reward `contrast` sees it. It is in memory, and never in a prompt or a file; whose answers they can be is among
what a run says it was trained on, for they are all of training queries.
"""

from __future__ import annotations

from collections.abc import Sequence

from prlm_cli.core.errors import DataError
from prlm_cli.core.records import Query, Retrieved
from prlm_cli.core.terms import Tokenizer
from prlm_cli.pipeline.neighbours import Neighbours
from prlm_cli.pipeline.pairs import normalised
from prlm_cli.rewards import asker


class OtherAnswers:
    """For a training query another user's answer, from the nearest training query that has a different one.

    Args:
        queries: The training queries.
        tokenizer: Of the index.

    Raises:
        DataError: If they are all of one user.
    """

    def __init__(self, queries: Sequence[Retrieved], tokenizer: Tokenizer) -> None:
        if len({query.user_id for query in queries}) < 2:
            raise DataError("another user's answers need two users", hint="index more users, or --contrast none")
        self._neighbours = Neighbours(queries, tokenizer)
        self._found: dict[tuple[object, ...], str | None] = {}

    def __call__(self, query: Query) -> str | None:
        """The answer; None where nobody else was asked anything that has a word in common with it."""
        key = asker(query)
        if key not in self._found:
            own = normalised(query.target or "")
            targets = (near.target for near in self._neighbours.of(query))
            # The same answer from somebody else would take away all that the right one is paid.
            self._found[key] = next((target for target in targets if target and normalised(target) != own), None)
        return self._found[key]
