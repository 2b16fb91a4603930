"""What a difference is worth: its size beside the spread of users, the least that could be seen, and many at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from prlm_cli.metrics.clusters import sums_by_user
from prlm_cli.metrics.intervals import effective_users

if TYPE_CHECKING:
    from prlm_cli.metrics.clusters import Clusters

_TWO_SIDED = 0.975  # of a test at 5 %
_POWER = 0.8


def effect_size(differences: Sequence[float], user_ids: Sequence[str]) -> float | None:
    """Cohen's d of paired differences, by user: the mean of the users' mean differences over their standard deviation.

    0.2 is called small, 0.5 medium, 0.8 large. None for one user, or where all differ alike. Source: Cohen, Statistical
    Power Analysis for the Behavioral Sciences (1988), d_z.

    Raises:
        DataError: If there are no rows.
    """
    clusters = _sums(differences, user_ids)
    means = (clusters.sums[:, 0] / clusters.rows).tolist()
    if len(means) == 1:
        return None
    mean = math.fsum(means) / len(means)
    spread = math.sqrt(math.fsum((own - mean) ** 2 for own in means) / (len(means) - 1))
    return mean / spread if spread > 1e-12 * abs(mean) else None


def least_gain(differences: Sequence[float], user_ids: Sequence[str]) -> float | None:
    """The smallest true mean difference that so many users and rows would show in four of five such test sets.

    That is, with 80 % power in a two-sided test at 5 %: (t(0.975) + t(0.8)) standard errors, which are clustered by
    user and have the degrees of freedom of the effective number of users. None where that is fewer than two. Source:
    Bloom, "Minimum Detectable Effects", Evaluation Review 19 (1995).

    Raises:
        DataError: If there are no rows.
    """
    from scipy.special import stdtrit

    clusters = _sums(differences, user_ids)
    freedom = effective_users(clusters.rows) - 1
    if freedom < 1:
        return None
    return float((stdtrit(freedom, _TWO_SIDED) + stdtrit(freedom, _POWER)) * _standard_error(clusters))


def holm(p_values: Sequence[float]) -> list[float]:
    """The p of each of several tests, raised so that all of them together are wrong with at most the chance of one.

    Source: Holm, "A Simple Sequentially Rejective Multiple Test Procedure", Scand. J. of Statistics 6 (1979).
    """
    adjusted = [0.0] * len(p_values)
    least = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = least
    return adjusted


def _sums(differences: Sequence[float], user_ids: Sequence[str]) -> Clusters:
    import numpy as np

    return sums_by_user(np.array(differences, dtype=np.float64)[:, None], user_ids)


def _standard_error(clusters: Clusters) -> float:
    """Of the mean over rows, from how far each user's sum is from what as many average rows would sum to."""
    users, n = len(clusters.rows), int(clusters.rows.sum())
    mean = float(clusters.total[0]) / n
    residuals = (clusters.sums[:, 0] - mean * clusters.rows).tolist()
    return math.sqrt(users / (users - 1) * math.fsum(residual**2 for residual in residuals)) / n
