"""The newest documents first."""

from __future__ import annotations

from itertools import islice

from prlm_cli.core.history import History
from prlm_cli.core.records import Query
from prlm_cli.core.settings import RetrievalSettings
from prlm_cli.core.store import Store
from prlm_cli.retrievers import Ranked
from prlm_cli.retrievers.eligible import Eligible


class Recency:
    """Documents by date, newest first; without dates the last that came in first. The score is 1/rank."""

    def __init__(self, store: Store, settings: RetrievalSettings, *, seed: int) -> None:
        pass

    def __call__(self, query: Query, history: History, seen: Eligible, k: int) -> list[Ranked]:
        """The newest k, newest first."""
        newest = (n for n in reversed(seen.span) if n not in seen.hidden)
        return [Ranked(position, 1 / rank) for rank, position in enumerate(islice(newest, k), start=1)]
