"""Metrics of a whole set: what each generation adds to sums, and what the sums come to.

A mean is the simplest: each adds its value and 1, and the mean is the one sum over the other. As only sums are needed,
every metric has the same bootstrap: the sums of resampled users.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prlm_cli.core.records import Generation
from prlm_cli.metrics import Metric
from prlm_cli.metrics.clusters import Value

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class SummedMetric:
    """A metric that is no mean of what single generations score.

    Args:
        statistics: What a generation adds to the sums, `size` numbers; None where the metric does not apply.
        size: How many statistics there are, S.
        value: What sums come to, (..., S) -> (...); defined wherever at least one generation was summed.
        __doc__: What it measures, its range, and which end is better.
    """

    statistics: Callable[[Generation], Sequence[float] | None]
    size: int
    value: Value
    __doc__: str

    def __call__(self, generation: Generation, /) -> float | None:
        """What one generation comes to alone; None where the metric does not apply."""
        import numpy as np

        found = self.statistics(generation)
        return None if found is None else float(self.value(np.array(found, dtype=np.float64)))


def mean(sums: NDArray[Any], /) -> Any:
    """The value of a plain metric: sums of its scores over how many there are, (..., 2) -> (...)."""
    return sums[..., 0] / sums[..., 1]


def value_of(metric: Metric) -> Value:
    """What the summed statistics of a metric come to, (..., S) -> (...); those of a plain one are its score and 1."""
    return metric.value if isinstance(metric, SummedMetric) else mean
