"""The benchmark of training: its figures have names, and its counts of bytes are right."""

from __future__ import annotations

import json

import pytest
import torch

from tests.bench import training
from tests.bench.figures import Figures
from tests.bench.training_parts import plan

_TINY = plan.CASES[0]._replace(sizes=plan.CASES[0].sizes | {"num_hidden_layers": 1}, prompt=64, completion=8, group=2)


def test_the_figures_have_an_aim_each():
    figures = Figures()

    plan.measure(figures, (_TINY,))

    assert set(training.AIMS) == set(plan.ERRORS)
    names = {figure["name"] for figure in json.loads(figures.as_json())["figures"]}
    assert names == {*plan.ERRORS, *(f"{name}_{_TINY.name}" for name in plan.ERRORS)}


def test_kept_bytes_are_those_of_the_distinct_tensors_that_a_gradient_needs():
    layer = torch.nn.Linear(4, 8, bias=False)
    given = torch.ones(3, 4)

    # The product with the weight keeps its input, the square its own: 3 x 4 and 3 x 8 numbers.
    assert plan.kept_bytes(layer, lambda: layer(given).square().sum()) == 4 * (12 + 24)


def test_the_peak_is_the_most_at_one_time():
    def work() -> None:
        first = torch.ones(1000)
        both = torch.cat([first, first])
        del first, both
        torch.ones(2500)

    assert plan.peak_bytes(work) == pytest.approx(4 * 3000, abs=256)
