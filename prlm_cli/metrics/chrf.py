"""chrF2 of the whole set, as sacrebleu computes it with its defaults (characters 1 to 6, no words, no white space)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from prlm_cli.core.records import Generation
from prlm_cli.metrics import target_of
from prlm_cli.metrics.summed import SummedMetric

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ORDERS = 6
_BETA = 2.0  # recall counts so much more than precision


def _statistics(generation: Generation) -> Sequence[float] | None:
    """The n-grams of the answer, those of the target, and those that they share, order by order."""
    target = target_of(generation)
    if target is None:
        return None
    # The counts are nowhere in what sacrebleu returns, only in what it computes that from.
    statistics: list[list[int]] = _scorer()._extract_corpus_statistics([generation.answer or ""], [[target]])
    return statistics[0]


@cache
def _scorer() -> Any:
    from sacrebleu.metrics import CHRF

    return CHRF()


def _value(sums: NDArray[Any], /) -> Any:
    """F2 of the mean precision and recall over the orders that both have, (..., 18) -> (...), in [0, 100]."""
    import numpy as np

    answer, target, shared = (sums[..., part::3] for part in range(3))  # (..., 6)
    is_counted = (answer > 0) & (target > 0)
    orders = np.maximum(is_counted.sum(axis=-1), 1)
    precision, recall = (
        np.where(is_counted, shared / np.maximum(of, 1), 0.0).sum(axis=-1) / orders for of in (answer, target)
    )
    weighted = _BETA**2 * precision + recall
    return 100 * (1 + _BETA**2) * precision * recall / np.where(weighted > 0, weighted, 1.0)


CHRF = SummedMetric(
    _statistics,
    3 * _ORDERS,
    _value,
    "chrF2 of all answers against the targets, in [0, 100], higher is better; not the mean of single answers.",
)
