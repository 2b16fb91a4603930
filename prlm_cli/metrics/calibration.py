"""Whether a preference model is as often right as it is sure."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

BINS = 10


class Bin(msgspec.Struct, frozen=True):
    """The pairs whose confidence lies in [low, high): how many, how sure of them, and how often right; each in [0, 1].

    The last one holds 1 as well. Means are None where there is no pair.
    """

    low: float
    high: float
    n: int
    confidence: float | None
    accuracy: float | None


class Calibration(msgspec.Struct, frozen=True):
    """The expected calibration error, in [0, 1], 0 is best, with its reliability table.

    `temperature` is T in `sigmoid(margin / T)`.
    """

    temperature: float
    ece: float
    bins: list[Bin]


def calibration(margins: Sequence[float], temperature: float) -> Calibration:
    """How confidence and accuracy agree over pairs whose first answer is the better one.

    Which of two answers comes first means nothing, so a pair is judged by the answer that the model prefers: it is sure
    of it with `sigmoid(|margin| / T)`, in [0.5, 1], and right where the margin is positive; an even margin is half
    right. The ten bins of equal width lie on [0.5, 1] therefore. Source: Guo et al., On Calibration of Modern Neural
    Networks (arXiv 1706.04599): the mean over all pairs of |accuracy - confidence| of their bin.

    Args:
        margins: `s(better) - s(worse)` of each pair, in logits.
        temperature: T, above 0.
    """
    members: list[list[tuple[float, float]]] = [[] for _ in range(BINS)]
    for margin in margins:
        confidence = sigmoid(abs(margin) / temperature)
        at = min(BINS - 1, int((confidence - 0.5) * 2 * BINS))
        members[at].append((confidence, 0.5 if margin == 0 else float(margin > 0)))
    bins = [_bin(at, pairs) for at, pairs in enumerate(members)]
    gaps = (b.n * abs(b.accuracy - b.confidence) for b in bins if b.accuracy is not None and b.confidence is not None)
    return Calibration(temperature, math.fsum(gaps) / max(1, len(margins)), bins)


def sigmoid(x: float) -> float:
    """`1 / (1 + exp(-x))`, for any x."""
    return 1 / (1 + math.exp(-max(-500.0, min(500.0, x))))


def _bin(at: int, pairs: Sequence[tuple[float, float]]) -> Bin:
    low, high = 0.5 + at / (2 * BINS), 0.5 + (at + 1) / (2 * BINS)
    if not pairs:
        return Bin(low, high, 0, None, None)
    confidence, accuracy = (math.fsum(column) / len(pairs) for column in zip(*pairs, strict=True))
    return Bin(low, high, len(pairs), confidence, accuracy)
