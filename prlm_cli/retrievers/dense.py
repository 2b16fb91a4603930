"""Dense retrieval: documents by the cosine of their vector and the query's.

Vectors are made once for each document and encoder and kept in the store, in half precision; all of a user's are
compared, so no approximate index is needed.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from prlm_cli.core.history import History
from prlm_cli.core.records import Query, shown
from prlm_cli.core.settings import RetrievalSettings
from prlm_cli.core.store import Store
from prlm_cli.retrievers import Ranked, best
from prlm_cli.retrievers.eligible import Eligible

if TYPE_CHECKING:
    from prlm_cli.models.encoder import Encoder


class Dense:
    """Documents by cosine similarity, in [-1, 1]."""

    def __init__(self, store: Store, settings: RetrievalSettings, *, seed: int) -> None:
        self._store = store
        self._settings = settings

    def __call__(self, query: Query, history: History, seen: Eligible, k: int) -> list[Ranked]:
        """The best k, best first."""
        import numpy as np

        positions = list(seen)
        if not positions:
            return []
        vectors = history.derived.get(self._encoder.fingerprint)
        if vectors is None:
            rows = self._vectors(history)
            vectors = np.stack([np.frombuffer(rows[entry.rid], dtype="<f2") for entry in history.entries])
            history.derived[self._encoder.fingerprint] = vectors
        asked = self._encoder.encode([query.text], queries=True)[0]  # (D,)
        scores = vectors[positions].astype(np.float32) @ asked  # (N,)
        return best(zip(scores.astype(float).tolist(), positions, strict=True), history, k)

    @property
    def _encoder(self) -> Encoder:
        return _load(self._settings.encoder)

    def _vectors(self, history: History) -> dict[int, bytes]:
        """The vector of each row; those that are missing are made and kept."""
        found = self._store.vectors(history.user_id, self._encoder.fingerprint)
        missing = [entry.rid for entry in history.entries if entry.rid not in found]
        if not missing:
            return found
        texts = [shown(document) for document in self._store.documents_at(history.user_id, missing)]
        made = self._encoder.encode(texts).astype("<f2")
        rows = {rid: vector.tobytes() for rid, vector in zip(missing, made, strict=True)}
        self._store.keep_vectors(history.user_id, self._encoder.fingerprint, rows)
        return found | rows


@lru_cache(maxsize=1)
def _load(name: str) -> Encoder:
    from prlm_cli.models.encoder import load_encoder

    return load_encoder(name)
