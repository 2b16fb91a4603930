"""How far a rating is from the user's, for the rating task of LaMP.

An answer that is no number counts as the end of the scale that is farther from the target, as LaMP's scorer has it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from prlm_cli.core.records import Generation
from prlm_cli.metrics import target_of
from prlm_cli.metrics.lamp_tasks import task_number
from prlm_cli.metrics.summed import SummedMetric

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TASK = 3
_WORST, _BEST = 1.0, 5.0  # stars


def mae(generation: Generation) -> float | None:
    """How many stars the answer is off, from 0 up, lower is better; None for what is no rating task of LaMP."""
    target = _number(target_of(generation))
    if target is None or task_number(generation) != _TASK:
        return None
    answer = _number(generation.answer)
    if answer is None:
        return max(target - _WORST, _BEST - target)
    return abs(answer - target)


def _squares(generation: Generation) -> Sequence[float] | None:
    error = mae(generation)
    return None if error is None else (error * error, 1.0)


def _root(sums: NDArray[Any], /) -> Any:
    import numpy as np

    return np.sqrt(sums[..., 0] / sums[..., 1])


def _number(text: str | None) -> float | None:
    try:
        number = float((text or "").strip())
    except ValueError:
        return None
    return number if math.isfinite(number) else None


RMSE = SummedMetric(
    _squares,
    2,
    _root,
    "Root mean squared error in stars, from 0 up, lower is better; None for another task than LaMP-3.",
)
