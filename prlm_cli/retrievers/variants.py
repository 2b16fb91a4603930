"""The other BM25 variants, for ablations over retrievers: bm25s, built for each query over its eligible documents.

Source: Kamphuis et al., Which BM25 Do You Mean? (ECIR 2020), as bm25s names and computes them (arXiv 2407.03618).
"""

from __future__ import annotations

from functools import partial

from prlm_cli.core.history import History
from prlm_cli.core.records import Query
from prlm_cli.core.settings import RetrievalSettings
from prlm_cli.core.store import Store
from prlm_cli.retrievers import Ranked, best
from prlm_cli.retrievers.eligible import Eligible
from prlm_cli.retrievers.okapi import K1, B


class Variant:
    """Documents by the score of one variant, float64; the best k."""

    def __init__(self, method: str, store: Store, settings: RetrievalSettings, *, seed: int) -> None:
        self._method = method
        self._tokenizer = store.tokenizer

    def __call__(self, query: Query, history: History, seen: Eligible, k: int) -> list[Ranked]:
        """The best k, best first."""
        documents = [history.entries[n].terms for n in seen]
        places = {term: place for place, term in enumerate({term for document in documents for term in document})}
        asked = [places[term] for term in self._tokenizer.terms(query.text) if term in places]
        scores = self._scores([[places[term] for term in document] for document in documents], places, asked)
        return best(zip(scores, seen, strict=True), history, k)

    def _scores(self, documents: list[list[int]], places: dict[int, int], asked: list[int]) -> list[float]:
        if not asked:
            return [0.0] * len(documents)
        import bm25s

        index = bm25s.BM25(method=self._method, k1=K1, b=B, dtype="float64")
        index.index((documents, places), create_empty_token=False, show_progress=False)
        scores: list[float] = index.get_scores(asked).tolist()
        return scores


BM25Plus = partial(Variant, "bm25+")
BM25L = partial(Variant, "bm25l")
ATIRE = partial(Variant, "atire")
Robertson = partial(Variant, "robertson")
