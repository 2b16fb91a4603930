"""ROUGE-1, ROUGE-2, ROUGE-L and ROUGE-Lsum as LaMP counts them: Google's `rouge_score`, F1, no stemming.

Its tokens are lower-cased runs of `[a-z0-9]`, so a text without any, for example in another script, scores 0.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from rouge_score_rs.rouge_scorer import RougeScorer

from prlm_cli.core.records import Generation
from prlm_cli.metrics import target_of

_SCORER = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=False)
_SUM_SCORER = RougeScorer(["rougeLsum"], use_stemmer=False)


class Rouge(NamedTuple):
    """F1 of shared words, of shared pairs of neighbours, and of the longest common subsequence; each in [0, 1]."""

    rouge1: float
    rouge2: float
    rouge_l: float


@lru_cache(maxsize=1)  # three metrics ask for the same pair one after the other
def rouge(answer: str | None, target: str) -> Rouge:
    """All three scores of an answer against a target; 0 for an answer that could not be read."""
    if answer is None:
        return Rouge(0.0, 0.0, 0.0)
    scores = _SCORER.score(target, answer)
    return Rouge(scores["rouge1"].fmeasure, scores["rouge2"].fmeasure, scores["rougeL"].fmeasure)


def rouge1(generation: Generation) -> float | None:
    """ROUGE-1 F1 against the target, in [0, 1], higher is better; None without a target."""
    scores = _against_target(generation)
    return scores.rouge1 if scores else None


def rouge2(generation: Generation) -> float | None:
    """ROUGE-2 F1 against the target, in [0, 1], higher is better; None without a target. One word alone scores 0."""
    scores = _against_target(generation)
    return scores.rouge2 if scores else None


def rouge_l(generation: Generation) -> float | None:
    """ROUGE-L F1 against the target, in [0, 1], higher is better; None without a target."""
    scores = _against_target(generation)
    return scores.rouge_l if scores else None


def rouge_l_sum(generation: Generation) -> float | None:
    """ROUGE-Lsum F1 against the target, in [0, 1], higher is better; None without a target.

    As ROUGE-L, but each line of the target is sought in all lines of the answer; source: Lin, "ROUGE" (2004), 3.2.
    """
    target = target_of(generation)
    if target is None:
        return None
    if generation.answer is None:
        return 0.0
    return float(_SUM_SCORER.score(target, generation.answer)["rougeLsum"].fmeasure)


def _against_target(generation: Generation) -> Rouge | None:
    target = target_of(generation)
    return None if target is None else rouge(generation.answer, target)
