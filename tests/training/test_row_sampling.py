from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prlm_cli.training.row_sampling import RowSampling, uniforms


def drawn(scores, numbers, temperature=1.0):
    """The first token of each row."""
    return RowSampling(temperature, numbers)(scores, range(len(scores)))


def test_tokens_come_as_often_as_the_temperature_says():
    scores = torch.tensor([2.0, 0.0, 1.0, -torch.inf]).repeat(20_000, 1)
    numbers = uniforms([f"row {n}" for n in range(20_000)], 1)

    shares = torch.bincount(torch.tensor(drawn(scores, numbers, 0.5)), minlength=4) / 20_000

    assert torch.allclose(shares, (scores[0] / 0.5).softmax(-1), atol=0.01)  # about three standard errors
    assert shares[3] == 0


@given(st.data())
def test_what_a_row_draws_does_not_hang_on_the_others(data):
    keys = data.draw(st.lists(st.text(max_size=5), min_size=1, max_size=6))
    seed = data.draw(st.integers(0, 1000))
    scores = torch.randn(len(keys), 17, generator=torch.Generator().manual_seed(seed))

    together = drawn(scores, uniforms(keys, 3))
    apart = [token for n, key in enumerate(keys) for token in drawn(scores[n : n + 1], uniforms([key], 3))]

    assert together == apart


def test_each_token_has_a_number_of_its_own_and_each_key_too():
    numbers = uniforms(["a", "b"], 50)
    sampling = RowSampling(1.0, numbers)
    scores = torch.zeros(2, 1000)

    tokens = torch.tensor([sampling(scores, [0, 1]) for _ in range(50)]).T

    assert torch.equal(tokens, (numbers * 1000).long())
    assert len(set(tokens.flatten().tolist())) > 80
    assert torch.equal(uniforms(["b"], 50)[0], numbers[1])


def test_the_ends_of_the_unit_interval_draw_the_first_and_last_token_that_can_be():
    scores = torch.tensor([[-torch.inf, 0.0, 0.0, -torch.inf]] * 2)

    assert drawn(scores, torch.tensor([[0.0], [1 - 2**-53]], dtype=torch.float64)) == [1, 2]


def test_a_row_that_has_ended_takes_no_number_from_another():
    numbers = uniforms(["a", "b", "c"], 2)
    sampling = RowSampling(1.0, numbers)
    scores = torch.zeros(3, 1000)

    sampling(scores, [0, 1, 2])

    assert sampling(scores[1:], [0, 2]) == (numbers[[0, 2], 1] * 1000).long().tolist()


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_scores_that_are_not_finite_are_an_error(value):
    with pytest.raises(RuntimeError, match="probability tensor"):
        drawn(torch.tensor([[0.0, value]]), uniforms(["a"], 1))
