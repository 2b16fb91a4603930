"""BLEU of the whole set, as sacrebleu computes it with its defaults (tokens 13a, orders 1 to 4, smoothing `exp`)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from prlm_cli.core.records import Generation
from prlm_cli.metrics import target_of
from prlm_cli.metrics.summed import SummedMetric

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ORDERS = 4


def _statistics(generation: Generation) -> Sequence[float] | None:
    """Lengths of answer and target in tokens, then the shared and all n-grams of the answer, order by order."""
    target = target_of(generation)
    if target is None:
        return None
    score = _scorer().corpus_score([generation.answer or ""], [[target]])
    return [score.sys_len, score.ref_len, *score.counts, *score.totals]


@cache
def _scorer() -> Any:
    from sacrebleu.metrics import BLEU

    return BLEU(force=True)  # no warning of answers that end in " ."


def _value(sums: NDArray[Any], /) -> Any:
    """The geometric mean of the precisions times the brevity penalty, (..., 10) -> (...), in [0, 100]."""
    import numpy as np

    length, target_length = sums[..., 0], sums[..., 1]
    shared, all_ = sums[..., 2 : 2 + _ORDERS], sums[..., 2 + _ORDERS :]
    # An order without a match counts as 1/2 of a match, the next such order as 1/4, ... (NIST, "exp").
    halvings = np.cumsum((shared == 0) & (all_ > 0), axis=-1)
    numerators = np.where(shared == 0, 0.5**halvings, shared)
    is_defined = (all_ > 0).all(axis=-1) & (shared > 0).any(axis=-1)
    precisions = np.where(np.expand_dims(is_defined, -1), numerators / np.maximum(all_, 1), 1.0)
    brevity = np.exp(np.minimum(0.0, 1 - target_length / np.maximum(length, 1)))
    return 100 * np.where(is_defined, brevity * np.exp(np.log(precisions).mean(axis=-1)), 0.0)


BLEU = SummedMetric(
    _statistics,
    2 + 2 * _ORDERS,
    _value,
    "BLEU-4 of all answers against the targets, in [0, 100], higher is better; not the mean of single answers.",
)
