"""ROUGE of many pairs, as a process of its own computes it: with nothing else to import."""

from __future__ import annotations

from collections.abc import Sequence

from prlm_cli.metrics.rouge import rouge


def rouge_scores(pairs: Sequence[tuple[str, str]]) -> list[float]:
    """ROUGE-L of (answer, target) pairs; ROUGE-1 and ROUGE-2 are computed with it."""
    return [rouge(answer, target).rouge_l for answer, target in pairs]
