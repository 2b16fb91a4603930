"""What the best of n is worth, exactly: over all ways to draw n of the candidates rather than some."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby


def expected_best(values: Sequence[float], scores: Sequence[float], n: int) -> float:
    """The expected value of the highest-scored of n candidates drawn without replacement.

    Of N candidates in the order of their scores, the i-th is the best of n in `C(i - 1, n - 1)` of the `C(N, n)` draws:
    it is among them, and the others come from those below it. Candidates of the same score are as good as each other,
    so each stands for their mean. Source: the unbiased estimator of Nakano et al., WebGPT (arXiv 2112.09332), which Gao
    et al., Scaling Laws for Reward Model Overoptimization (arXiv 2210.10760), use for their curves; here with ties.

    Args:
        values: What each candidate is worth.
        scores: What it is chosen by.
        n: How many are drawn, from 1 up to their number.
    """
    ranked = sorted(zip(scores, values, strict=True), key=lambda candidate: candidate[0])
    draws = math.comb(len(ranked), n)
    expected, below = [], 0
    for _, tied in groupby(ranked, key=lambda candidate: candidate[0]):
        worth = [value for _, value in tied]
        # The best is one of these where not all n come from those below; sums of C(i - 1, n - 1) are such differences.
        won = math.comb(below + len(worth), n) - math.comb(below, n)
        expected.append(won / draws * (math.fsum(worth) / len(worth)))
        below += len(worth)
    return math.fsum(expected)


def doublings(count: int) -> list[int]:
    """1, 2, 4, ... up to `count`, which is the last where it is no power of two."""
    found = [2**power for power in range(count.bit_length()) if 2**power < count]
    return [*found, count]
