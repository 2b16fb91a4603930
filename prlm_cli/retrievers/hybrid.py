"""Words and meaning together: BM25 and dense retrieval, fused by rank."""

from __future__ import annotations

from prlm_cli.core.history import History
from prlm_cli.core.records import Query
from prlm_cli.core.settings import RetrievalSettings
from prlm_cli.core.store import Store
from prlm_cli.retrievers import Ranked, Retriever, best
from prlm_cli.retrievers.bm25 import BM25
from prlm_cli.retrievers.dense import Dense
from prlm_cli.retrievers.eligible import Eligible
from prlm_cli.retrievers.fusion import fuse

_DEPTH = 100  # of each ranking that is fused


class Hybrid:
    """Documents by the reciprocal rank fusion of both rankings."""

    def __init__(self, store: Store, settings: RetrievalSettings, *, seed: int) -> None:
        self._parts: list[Retriever] = [BM25(store, settings, seed=seed), Dense(store, settings, seed=seed)]

    def __call__(self, query: Query, history: History, seen: Eligible, k: int) -> list[Ranked]:
        """The best k, best first."""
        rankings = [part(query, history, seen, max(k, _DEPTH)) for part in self._parts]
        fused = fuse([[position for position, _ in ranking] for ranking in rankings])
        return best(((score, position) for position, score in fused.items()), history, k)
