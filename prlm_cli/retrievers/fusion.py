"""Reciprocal rank fusion: one ranking from several, by ranks alone.

Source: Cormack, Clarke and Büttcher, Reciprocal Rank Fusion (SIGIR 2009): the sum of 1/(60 + rank).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import TypeVar

_K = 60
Item = TypeVar("Item", bound=Hashable)


def fuse(rankings: Iterable[Sequence[Item]]) -> dict[Item, float]:
    """The score of each item that is in a ranking, in no order.

    Args:
        rankings: Items, best first, each at most once a ranking.
    """
    scores: dict[Item, float] = {}
    for ranking in rankings:
        for rank, item in enumerate(ranking, start=1):
            scores[item] = scores.get(item, 0.0) + 1 / (_K + rank)
    return scores
