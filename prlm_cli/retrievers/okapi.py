"""The formulas of BM25, in Lucene's variant, without the constant factor k1 + 1, which changes no rank.

    idf = ln(1 + (n - df + .5) / (df + .5))
    s = sum q * idf * tf / (tf + k1 * (1 - b + b * |d| / avg))

Source: Robertson and Zaragoza, The Probabilistic Relevance Framework (2009).
"""

from __future__ import annotations

import math
from typing import Any

K1 = 1.5
B = 0.75


def idf(n: int, df: int) -> float:
    """The inverse document frequency of a term that is in df of n documents."""
    return math.log(1 + (n - df + 0.5) / (df + 0.5))


def length_norm(length: Any, average: float) -> Any:
    """What tf is held against in a document of that length, or of each of an array of lengths."""
    return K1 * (1 - B + B * length / average) if average else K1
