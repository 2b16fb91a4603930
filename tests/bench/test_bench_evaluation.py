"""The benchmark of evaluation on little: every figure that has an aim is there, and can be wrong."""

from __future__ import annotations

import pytest

from tests.bench import evaluation
from tests.bench.evaluation_parts import metrics
from tests.bench.figures import Figures


def test_the_figures_of_metrics_are_all_there(shared_data, monkeypatch):
    few = metrics.real_pairs(shared_data)[::200]
    monkeypatch.setattr(metrics, "real_pairs", lambda _: few)
    monkeypatch.setattr(metrics, "_ROUNDS", 1)
    figures = Figures()

    metrics.add_metrics(figures, shared_data, generations=200, repeats=1)

    assert set(evaluation.AIMS) - {"coverage", "false_positive_rate"} <= {
        name for name in evaluation.AIMS if name in figures
    }
    assert figures["metric_max_difference"] >= figures["rouge_max_difference"]
    assert figures["rouge_speedup_one_core"] > 1


def test_a_metric_that_is_wrong_shows(monkeypatch):
    monkeypatch.setitem(metrics.REFERENCES, "rouge1", lambda *_: 2.0)
    figures = Figures()

    metrics._add_differences([("a b", "a b")], figures)

    assert figures["rouge_max_difference"] == pytest.approx(1.0)
