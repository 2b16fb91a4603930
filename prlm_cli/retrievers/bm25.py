"""BM25 over the user's eligible documents, with their own statistics.

Statistics over other documents than the eligible ones would let a later document leak into the past. Scores are summed
in the order of the sorted term hashes, here and over arrays: the two agree to the bit, so it cannot be seen which ran.
"""

from __future__ import annotations

import sys
from collections import Counter

from prlm_cli.core.history import History
from prlm_cli.core.records import Query
from prlm_cli.core.settings import RetrievalSettings
from prlm_cli.core.store import Store
from prlm_cli.retrievers import Ranked, best
from prlm_cli.retrievers.eligible import Eligible
from prlm_cli.retrievers.okapi import idf, length_norm

_LOOPED_TERMS = 1_000_000  # reading so many one by one takes as long as importing numpy
_FEW_TERMS = 1000  # of a history: read one by one before arrays are made of them


class BM25:
    """Documents by their BM25 score, float64; the best k."""

    def __init__(self, store: Store, settings: RetrievalSettings, *, seed: int) -> None:
        self._tokenizer = store.tokenizer
        self._looped_terms = 0

    def __call__(self, query: Query, history: History, seen: Eligible, k: int) -> list[Ranked]:
        """The best k, best first."""
        wanted = self._tokenizer.counts(query.text)
        if self._is_worth_arrays(history):
            from prlm_cli.retrievers import bm25_arrays

            return best(bm25_arrays.candidates(wanted, history, seen, k), history, k)
        return best(zip(scores(wanted, history, seen), seen, strict=True), history, k)

    def _is_worth_arrays(self, history: History) -> bool:
        if history.size <= _FEW_TERMS:
            return False
        if "numpy" in sys.modules:
            return True
        self._looped_terms += history.size
        return self._looped_terms > _LOOPED_TERMS


def scores(wanted: Counter[int], history: History, seen: Eligible) -> list[float]:
    """The score of each document seen, in their order.

    Args:
        wanted: The query's term hashes and how often each stands there.
        history: The user's documents.
        seen: Those that count.
    """
    hashes = [memoryview(history.entries[n].hashes).cast("Q") for n in seen]
    counts = [Counter(filter(wanted.__contains__, document)) for document in hashes]
    found = Counter(term for count in counts for term in count)
    weights = term_weights(wanted, found, len(hashes))
    average = sum(map(len, hashes)) / len(hashes) if hashes else 0.0
    return [
        _score(count, weights, length_norm(len(document), average))
        for count, document in zip(counts, hashes, strict=True)
    ]


def term_weights(wanted: Counter[int], found: Counter[int], n: int) -> dict[int, float]:
    """The weight of each term found: its count in the query times its idf over n documents."""
    return {term: wanted[term] * idf(n, df) for term, df in found.items()}


def _score(count: Counter[int], weights: dict[int, float], norm: float) -> float:
    score = 0.0
    for term, tf in count.items():  # in the order of the hashes; `sum` would compensate in newer Pythons
        score += weights[term] * tf / (tf + norm)
    return score
