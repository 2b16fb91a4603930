"""Pairs without what length gives away: chosen answers that are longer as often as they are shorter."""

from __future__ import annotations

import math
from collections.abc import Sequence

from prlm_cli.core.records import PreferencePair

_MOST_DROPPED = 0.5  # of a kind: beyond that more is lost than length can give away


def balanced(pairs: Sequence[PreferencePair], skew: float) -> list[PreferencePair]:
    """The pairs, without some whose lengths differ in the commoner direction: those that differ most, first.

    Of each kind so few go that among the rest the pairs whose chosen answer is the longer, in words, outnumber those
    where it is the shorter, or these them, by at most the share `skew` of the rest; half of the pairs at most. Pairs of
    equal length stay, and so do all of a kind in which nothing is to be gained: where the longer is always the chosen
    one, or always the rejected.

    Args:
        pairs: Of any kinds.
        skew: 0 balances exactly, 1 keeps all.
    """
    dropped: set[int] = set()
    for kind in sorted({pair.kind for pair in pairs}):
        dropped |= _surplus({n: _difference(pair) for n, pair in enumerate(pairs) if pair.kind == kind}, skew)
    return [pair for n, pair in enumerate(pairs) if n not in dropped]


def _surplus(differences: dict[int, int], skew: float) -> set[int]:
    """The pairs of one kind that go."""
    longer = [n for n, difference in differences.items() if difference > 0]
    shorter = [n for n, difference in differences.items() if difference < 0]
    more, fewer = (longer, shorter) if len(longer) > len(shorter) else (shorter, longer)
    most = math.floor(_MOST_DROPPED * len(differences)) if fewer else 0
    count = 0
    while count < most and len(more) - len(fewer) - count > skew * (len(differences) - count):
        count += 1
    return set(sorted(more, key=lambda n: (-abs(differences[n]), n))[:count])


def _difference(pair: PreferencePair) -> int:
    """By how many words the chosen answer is longer."""
    return len(pair.chosen.split()) - len(pair.rejected.split())
