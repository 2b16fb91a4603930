"""What else people do, each at its best: their texts are in memory, their code is warm, and what is built once is.

- the field's usual way, as the public code of LaMP and of PrLM has it: rank_bm25 built for every query over the texts
  of its user, words cut at white space;
- bm25s, one index over everybody's texts, and for each query a mask that leaves only its user's;
- bm25s built for every query over the texts of its user.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import bm25s
import numpy as np
from Stemmer import Stemmer

_STEMMER = Stemmer("english")


def rank_bm25_per_query(texts: Sequence[str], query: str, k: int) -> list[str]:
    """The k best texts by rank_bm25, built for this query."""
    from rank_bm25 import BM25Okapi  # type: ignore[import-untyped]

    return list(BM25Okapi([text.split() for text in texts]).get_top_n(query.split(), texts, n=k))


def bm25s_per_query(texts: Sequence[str], query: str, k: int) -> list[str]:
    """The k best texts by bm25s, built for this query."""
    index = bm25s.BM25()
    index.index(bm25s.tokenize(texts, stemmer=_STEMMER, show_progress=False), show_progress=False)
    words = bm25s.tokenize([query], stemmer=_STEMMER, show_progress=False, return_ids=False)
    found = index.retrieve(words, k=min(k, len(texts)), show_progress=False)
    return [texts[number] for number in found.documents[0]]


class SharedIndex:
    """One bm25s index over many texts, with the numba backend; compiled when it is there."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = texts
        self._index = bm25s.BM25(backend="numba")
        self._index.index(bm25s.tokenize(texts, stemmer=_STEMMER, show_progress=False), show_progress=False)
        self._mask = np.zeros(len(texts), dtype=np.float32)

    def best_of_ranges(self, asked: Sequence[tuple[range, str]], k: int) -> Iterator[list[str]]:
        """For each query the k best texts within its range of texts."""
        words = _words([query for _, query in asked])
        for (own, _), of_query in zip(asked, words, strict=True):
            self._mask[own.start : own.stop] = 1
            found = self._retrieve([of_query], k, weight_mask=self._mask)
            self._mask[own.start : own.stop] = 0
            yield [self._texts[number] for number in found[0]]

    def best(self, queries: Sequence[str], k: int) -> list[list[str]]:
        """For each query the k best of all texts, in one call."""
        found = self._retrieve(_words(queries), k)
        return [[self._texts[number] for number in numbers] for numbers in found]

    def _retrieve(self, words: list[list[str]], k: int, **options: Any) -> Any:
        k = min(k, len(self._texts))
        return self._index.retrieve(words, k=k, show_progress=False, **options).documents


def compile_shared_index() -> None:
    """Lets numba compile what `SharedIndex` needs, so that no measurement pays for it."""
    index = SharedIndex(["some text", "some other text"])
    list(index.best_of_ranges([(range(2), "text")], 1))
    index.best(["text"], 1)


def _words(queries: Sequence[str]) -> list[list[str]]:
    return list(bm25s.tokenize(list(queries), stemmer=_STEMMER, show_progress=False, return_ids=False))
