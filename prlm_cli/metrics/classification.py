"""Accuracy and macro-F1 of the tasks of LaMP with a fixed list of labels; an answer that is no label is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from prlm_cli.core.records import Generation
from prlm_cli.metrics import target_of
from prlm_cli.metrics.lamp_tasks import LABELS, task_number
from prlm_cli.metrics.summed import SummedMetric

if TYPE_CHECKING:
    from numpy.typing import NDArray


def accuracy(generation: Generation) -> float | None:
    """1.0 if the answer is the label, else 0.0; higher is better; None for what is no classification task of LaMP."""
    target = target_of(generation)
    if target is None or task_number(generation) not in LABELS:
        return None
    return float(_answer(generation) == target)


def _counts(task: int, generation: Generation) -> Sequence[float] | None:
    """For each label of the task: whether answer and target are it, whether the answer is, whether the target is."""
    target = target_of(generation)
    if target is None or task_number(generation) != task:
        return None
    answer = _answer(generation)
    return [
        float(is_it)
        for label in LABELS[task]
        for is_it in (answer == target == label, answer == label, target == label)
    ]


def _macro_f1(sums: NDArray[Any], /) -> Any:
    """The mean F1 of the labels, (..., 3 L) -> (...); 0 for a label that nobody wrote, as scikit-learn has it."""
    import numpy as np

    both, answered, wanted = (sums[..., part::3] for part in range(3))
    return (2 * both / np.maximum(answered + wanted, 1)).mean(axis=-1)


def _answer(generation: Generation) -> str:
    return (generation.answer or "").strip()


def _f1(task: int) -> SummedMetric:
    return SummedMetric(
        partial(_counts, task),
        3 * len(LABELS[task]),
        _macro_f1,
        f"Macro-F1 over the labels of LaMP-{task}, in [0, 1], higher is better; None for another task.",
    )


F1_CITATION = _f1(1)
F1_TAG = _f1(2)
