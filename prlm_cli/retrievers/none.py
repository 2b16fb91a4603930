"""No documents: the control without personalisation."""

from __future__ import annotations

from prlm_cli.core.history import History
from prlm_cli.core.records import Query
from prlm_cli.core.settings import RetrievalSettings
from prlm_cli.core.store import Store
from prlm_cli.retrievers import Ranked
from prlm_cli.retrievers.eligible import Eligible


class Nothing:
    """An empty profile."""

    def __init__(self, store: Store, settings: RetrievalSettings, *, seed: int) -> None:
        pass

    def __call__(self, query: Query, history: History, seen: Eligible, k: int) -> list[Ranked]:
        """No document."""
        return []
