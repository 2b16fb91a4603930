"""How far two raters agree beyond chance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence


def cohen_kappa(a: Sequence[str], b: Sequence[str]) -> float | None:
    """Cohen's kappa of two raters' labels, in [-1, 1]; None without items, or where both only ever give one label.

    Source: Cohen (1960): (p_o - p_e) / (1 - p_e), with p_o the share of items on which they agree and p_e the share
    that would agree if each drew from its own labels.
    """
    if not a:
        return None
    agreed = sum(x == y for x, y in zip(a, b, strict=True)) / len(a)
    of_a, of_b = Counter(a), Counter(b)
    by_chance = sum(of_a[label] * of_b[label] for label in of_a) / len(a) ** 2
    return None if by_chance == 1 else (agreed - by_chance) / (1 - by_chance)
