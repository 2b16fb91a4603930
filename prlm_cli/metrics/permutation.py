"""A paired test that takes users, not rows, as the sample: a and b are swapped for whole users."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from prlm_cli.metrics.clusters import Value, batches, sums_by_user
from prlm_cli.metrics.intervals import differences

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ROUNDING = 1e-12  # sums of the same numbers in another order differ in the last digits; those are ties


def paired_permutation_p(
    a: Sequence[float], b: Sequence[float], user_ids: Sequence[str], *, resamples: int = 2000, seed: int = 0
) -> float:
    """The two-sided p of "the means of a and b do not differ", by swapping a and b for whole users.

    All ways to swap are counted where there are no more than `resamples`; else as many random ones, and the observed
    one, so that p is at least 1 / (resamples + 1).

    Raises:
        DataError: If there are no rows.
    """
    import numpy as np

    # There are as many rows on either side however they are swapped, so sums rank as means do.
    rows = np.array(differences(a, b), dtype=np.float64)[:, None]
    return paired_statistic_p(rows, np.zeros_like(rows), user_ids, _total, resamples=resamples, seed=seed)


def paired_statistic_p(
    a: NDArray[Any], b: NDArray[Any], user_ids: Sequence[str], value: Value, *, resamples: int = 2000, seed: int = 0
) -> float:
    """As `paired_permutation_p`, of what the summed statistics of paired rows, (n, S), come to.

    Raises:
        DataError: If there are no rows.
    """
    import numpy as np

    width = a.shape[1]
    clusters = sums_by_user(np.concatenate([a, b], axis=1), user_ids)
    apart = clusters.sums[:, :width] - clusters.sums[:, width:]
    total_a, total_b = clusters.total[:width], clusters.total[width:]
    value_a, value_b = float(value(total_a)), float(value(total_b))
    observed = abs(value_a - value_b) - _ROUNDING * (abs(value_a) + abs(value_b))
    extreme = count = 0
    for swapped in _swaps(len(apart), resamples, seed):  # (batch, users)
        moved = np.stack([(swapped * column).sum(axis=1) for column in apart.T], axis=-1)  # (batch, S)
        permuted = np.abs(value(total_a - moved) - value(total_b + moved))
        extreme += int((permuted >= observed).sum())
        count += len(permuted)
    return extreme / count if _are_few(len(apart), resamples) else (1 + extreme) / (1 + count)


def _swaps(users: int, resamples: int, seed: int) -> Iterator[NDArray[Any]]:
    """For which users a and b are swapped, (batch, users), 1 where they are: every way, or random ones."""
    import numpy as np

    if _are_few(users, resamples):
        yield np.arange(2**users)[:, None] >> np.arange(users) & 1
        return
    rng = np.random.default_rng(seed)
    for size in batches(users, resamples):
        yield rng.integers(2, size=(size, users), dtype=np.int8)


def _are_few(users: int, resamples: int) -> bool:
    """Whether there are no more ways to swap than resamples: 2 ** users <= resamples."""
    return users < resamples.bit_length()


def _total(sums: NDArray[Any], /) -> Any:
    return sums[..., 0]
