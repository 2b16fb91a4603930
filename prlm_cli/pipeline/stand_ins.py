"""Other users who stand in for a query's own: with their records a policy is shown what it is not to follow.

One function reads another user's records, `swapped_profile`; it keeps both users' ids.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Sequence
from itertools import islice

from prlm_cli.core.errors import DataError
from prlm_cli.core.records import Query, Retrieved
from prlm_cli.core.settings import Config
from prlm_cli.core.store import Store
from prlm_cli.pipeline.neighbours import Neighbours
from prlm_cli.pipeline.retrieve import swapped_profile

_TRIED = 8  # near users: those behind them, where none of these has records that are old enough, are not near


class StandIns:
    """Other users with records for a query.

    Args:
        store: The index.
        sides: Users who stand in for one another. A side of one user has nobody: there, anybody may.
        config: How records are ranked, and the seed.
        neighbours: Queries by which users are near.

    Raises:
        DataError: If there are not two users.
    """

    def __init__(
        self, store: Store, sides: Sequence[Collection[str]], config: Config, neighbours: Neighbours | None = None
    ) -> None:
        users = {user for side in sides for user in side}
        if len(users) < 2:
            raise DataError("another user's records need two users", hint="index more users")
        self._store = store
        self._config = config
        self._side_of = {user: side if len(side) > 1 else users for side in sides for user in side}
        self._neighbours = neighbours

    def at_random(self, query: Query) -> Retrieved | None:
        """The query with the records of a user drawn at random; None if nobody has any."""
        return self._swapped(query, self._side_of[query.user_id])

    def near(self, query: Query) -> tuple[Retrieved, Retrieved] | None:
        """The query with the records of the nearest user who has any, and the query that makes that user near."""
        if self._neighbours:
            side = self._side_of[query.user_id]
            neighbours = (near for near in self._neighbours.of(query) if near.user_id in side)
            for neighbour in islice(neighbours, _TRIED):
                if swapped := self._swapped(query, [neighbour.user_id]):
                    return swapped, neighbour
        return None

    def _swapped(self, query: Query, user_ids: Collection[str]) -> Retrieved | None:
        with contextlib.suppress(DataError):  # nobody among them has a record that is old enough
            config = self._config
            return swapped_profile(
                self._store, query, user_ids, config.retrieval, prompt=config.prompt, seed=config.seed
            )
        return None
