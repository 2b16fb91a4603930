"""Maximal marginal relevance: the next document is one that scores well and resembles none before it.

Source: Carbonell and Goldstein, The Use of MMR (SIGIR 1998), eq. 1, with scores scaled to [0, 1] and the cosine of term
counts as similarity.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from prlm_cli.core.history import History
from prlm_cli.retrievers import Ranked


def diversify(ranked: Sequence[Ranked], history: History, k: int, weight: float) -> list[Ranked]:
    """The k documents to show, in the order they are taken; they keep their scores.

    Args:
        ranked: Candidates, best first.
        history: What their positions are in.
        k: How many to take.
        weight: Of the score against novelty, in [0, 1].
    """
    scores = _scaled([candidate.score for candidate in ranked])
    counts = [Counter(history.entries[candidate.position].terms) for candidate in ranked]
    likeness = [0.0] * len(ranked)  # to the most similar document taken
    taken: list[int] = []
    while len(taken) < min(k, len(ranked)):
        left = (n for n in range(len(ranked)) if n not in taken)
        chosen = max(left, key=lambda n: (weight * scores[n] - (1 - weight) * likeness[n], -n))
        taken.append(chosen)
        likeness = [max(old, _cosine(counts[chosen], other)) for old, other in zip(likeness, counts, strict=True)]
    return [ranked[n] for n in taken]


def _scaled(scores: Sequence[float]) -> list[float]:
    low, high = min(scores, default=0.0), max(scores, default=0.0)
    return [(score - low) / (high - low) if high > low else 1.0 for score in scores]


def _cosine(one: Counter[int], two: Counter[int]) -> float:
    shared = sum(count * two[term] for term, count in one.items() if term in two)
    return shared / (_length(one) * _length(two)) if shared else 0.0


def _length(counts: Counter[int]) -> float:
    return math.sqrt(sum(count * count for count in counts.values()))
