"""BM25 over the user's eligible documents, with their own statistics.

Source: Robertson and Zaragoza, The Probabilistic Relevance Framework (2009), in Lucene's variant, without the constant
factor k1 + 1, which changes no rank:

    idf = ln(1 + (n - df + .5) / (df + .5))
    s = sum idf * tf / (tf + k1 * (1 - b + b * |d| / avg))

Statistics over other documents than the eligible ones would let a later document leak into the past.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from prlm_cli.core import terms
from prlm_cli.core.records import Query
from prlm_cli.core.store import Entry
from prlm_cli.retrievers import Ranked, by_score

_K1 = 1.5
_B = 0.75


def bm25(query: Query, eligible: Sequence[Entry], *, seed: int = 0) -> list[Ranked]:
    """Documents by their BM25 score, float64, summed in the order of the sorted term hashes."""
    wanted = Counter(terms.terms(query.text))
    documents = [entry.terms for entry in eligible]
    counts = [Counter(term for term in document if term in wanted) for document in documents]
    average = sum(map(len, documents)) / len(documents) if documents else 0.0
    idf = {term: _idf(len(documents), sum(term in count for count in counts)) for term in wanted}
    scored = []
    for entry, document, count in zip(eligible, documents, counts, strict=True):
        norm = _K1 * (1 - _B + _B * len(document) / average) if average else _K1
        score = sum(wanted[t] * idf[t] * count[t] / (count[t] + norm) for t in sorted(count))
        scored.append(Ranked(entry, float(score)))
    return by_score(scored)


def _idf(n: int, df: int) -> float:
    return math.log(1 + (n - df + 0.5) / (df + 0.5))
