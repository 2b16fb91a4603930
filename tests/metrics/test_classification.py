import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from prlm_cli.metrics import METRICS
from prlm_cli.metrics.lamp_tasks import LABELS
from tests.metrics.generations import answered

TASKS = {1: "f1_citation", 2: "f1_tag"}


@pytest.mark.parametrize(("task", "name"), TASKS.items())
@given(data=st.data())
def test_macro_f1_equals_scikit_learns_over_the_fixed_labels(task, name, data):
    labels = LABELS[task]
    rows = data.draw(
        st.lists(st.tuples(st.sampled_from([*labels, "no label"]), st.sampled_from(labels)), min_size=1, max_size=30)
    )
    metric = METRICS[name]
    sums = np.sum([metric.statistics(answered(*row, task=f"LaMP_{task}")) for row in rows], axis=0)
    answers, targets = zip(*rows, strict=True)
    expected = f1_score(targets, answers, labels=list(labels), average="macro", zero_division=0)

    assert metric.value(sums) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("answer", "score"), [("[1]", 1.0), (" [1]\n", 1.0), ("[2]", 0.0), ("1", 0.0), (None, 0.0)], ids=str
)
def test_accuracy_is_of_the_stripped_label(answer, score):
    assert METRICS["accuracy"](answered(answer, "[1]", "LaMP_1")) == score


@pytest.mark.parametrize("name", ["accuracy", "f1_citation", "f1_tag"])
@pytest.mark.parametrize("task", [None, "LaMP_5", "LongLaMP_2"], ids=str)
def test_classification_does_not_apply_to_other_tasks(name, task):
    assert METRICS[name](answered("[1]", "[1]", task)) is None


def test_f1_of_one_task_does_not_apply_to_the_other():
    assert METRICS["f1_tag"](answered("[1]", "[1]", "LaMP_1")) is None
    assert METRICS["f1_citation"](answered("[1]", "[1]", "LaMP-1")) == 0.5  # the other label has no F1
