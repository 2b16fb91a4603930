"""Documents in random order: the control that shows what ranking is worth."""

from __future__ import annotations

import random

from prlm_cli.core.history import History
from prlm_cli.core.records import Query
from prlm_cli.core.settings import RetrievalSettings
from prlm_cli.core.store import Store
from prlm_cli.retrievers import Ranked
from prlm_cli.retrievers.eligible import Eligible


class Shuffled:
    """Documents in an order that depends on the seed and the query alone, without replacement. All scores are 0."""

    def __init__(self, store: Store, settings: RetrievalSettings, *, seed: int) -> None:
        self._seed = seed

    def __call__(self, query: Query, history: History, seen: Eligible, k: int) -> list[Ranked]:
        """Any k of them."""
        order = sorted(seen, key=history.doc_ids.__getitem__)
        random.Random(f"{self._seed}:{query.query_id}").shuffle(order)
        return [Ranked(position, 0.0) for position in order[:k]]
