"""Metrics: a generation -> one number, or None where the metric does not apply. One file a subject, one line each.

Most are plain functions, whose mean is reported. A metric of the whole set, such as BLEU or RMSE, is a `SummedMetric`.
"""

from __future__ import annotations

from typing import Literal, Protocol

from prlm_cli.core.records import Generation
from prlm_cli.core.registry import Registry


class Metric(Protocol):
    """Scores one generation; an answer that could not be read scores 0."""

    def __call__(self, generation: Generation, /) -> float | None:
        """The score; None where the metric does not apply, for example without a target."""
        ...


METRICS: Registry[Metric] = Registry(
    "metric",
    {
        "rouge1": "prlm_cli.metrics.rouge:rouge1",
        "rouge2": "prlm_cli.metrics.rouge:rouge2",
        "rougeL": "prlm_cli.metrics.rouge:rouge_l",
        "rougeLsum": "prlm_cli.metrics.rouge:rouge_l_sum",
        "meteor": "prlm_cli.metrics.meteor:meteor",
        "meteor_stem": "prlm_cli.metrics.meteor:meteor_stem",
        "bleu": "prlm_cli.metrics.bleu:BLEU",
        "chrf": "prlm_cli.metrics.chrf:CHRF",
        "bertscore": "prlm_cli.models.bert_score:bertscore",
        "exact_match": "prlm_cli.metrics.exact_match:exact_match",
        "accuracy": "prlm_cli.metrics.classification:accuracy",
        "f1_citation": "prlm_cli.metrics.classification:F1_CITATION",
        "f1_tag": "prlm_cli.metrics.classification:F1_TAG",
        "mae": "prlm_cli.metrics.rating:mae",
        "rmse": "prlm_cli.metrics.rating:RMSE",
        "format_rate": "prlm_cli.metrics.format_rate:format_rate",
        "extract_fail": "prlm_cli.metrics.extract_fail:extract_fail",
        "copy_rate": "prlm_cli.metrics.copy_rate:copy_rate",
        "length": "prlm_cli.metrics.length:length",
        "rouge1_zh": "prlm_cli.metrics.legacy:rouge1_zh",
        "rouge2_zh": "prlm_cli.metrics.legacy:rouge2_zh",
        "rougeL_zh": "prlm_cli.metrics.legacy:rouge_l_zh",
        "bleu_char": "prlm_cli.metrics.legacy:bleu_char",
        "reasoning_length": "prlm_cli.metrics.length:reasoning_length",
        "style": "prlm_cli.metrics.stylometry:style",
        "reward": "prlm_cli.metrics.reward:reward",
        "author": "prlm_cli.metrics.author:author",
    },
)

LOWER_IS_BETTER = frozenset({"extract_fail", "copy_rate", "mae", "rmse"})
NEITHER_IS_BETTER = frozenset({"length", "reasoning_length"})


def direction(metric: str) -> Literal[-1, 0, 1]:
    """1 where a higher score is better, -1 where a lower one is, 0 where neither is."""
    if metric in NEITHER_IS_BETTER:
        return 0
    return -1 if metric in LOWER_IS_BETTER else 1


def target_of(generation: Generation) -> str | None:
    """What the user really wrote, without outer white space; None where that is not known or blank."""
    return (generation.target or "").strip() or None
