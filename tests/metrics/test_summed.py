import numpy as np

from prlm_cli.metrics import METRICS
from prlm_cli.metrics.summed import SummedMetric, mean, value_of
from tests.metrics.generations import answered

WORDS = SummedMetric(
    lambda g: None if g.answer is None else (len(g.answer.split()), 1.0), 2, lambda s: s[..., 0] / s[..., 1], "Words."
)


def test_a_summed_metric_of_one_generation_is_the_value_of_its_statistics():
    assert WORDS(answered("two words", None)) == 2.0
    assert WORDS(answered(None, None)) is None


def test_the_value_of_a_plain_metric_is_the_mean_of_its_scores():
    assert value_of(METRICS["rougeL"]) is mean
    assert mean(np.array([[3.0, 4.0], [1.0, 1.0]])).tolist() == [0.75, 1.0]


def test_the_value_of_a_summed_metric_is_its_own():
    assert value_of(WORDS)(np.array([6.0, 3.0])) == 2.0


def test_statistics_are_as_many_as_the_metric_says():
    for name, task in {
        "bleu": None,
        "chrf": None,
        "rmse": "LaMP_3",
        "f1_citation": "LaMP_1",
        "f1_tag": "LaMP_2",
    }.items():
        metric = METRICS[name]
        assert isinstance(metric, SummedMetric)
        assert len(metric.statistics(answered("4", "5", task))) == metric.size
