from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from prlm_cli.training.row_sampling import RowSampling, uniforms


def drawn(scores, numbers, temperature=1.0):
    """The token that greedy decoding takes of each row."""
    found = RowSampling(temperature, numbers)(None, scores)
    assert (found == 0).sum(-1).tolist() == [1] * len(scores)  # all others are impossible
    return found.argmax(-1).tolist()


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

    tokens = torch.stack([sampling(None, scores).argmax(-1) for _ in range(50)], dim=1)

    assert torch.equal(tokens, (numbers * 1000).long())
    assert len(set(tokens.flatten().tolist())) > 80
    assert torch.equal(uniforms(["b"], 50)[0], numbers[1])


def test_the_ends_of_the_unit_interval_draw_the_first_and_last_token_that_can_be():
    scores = torch.tensor([[-torch.inf, 0.0, 0.0, -torch.inf]] * 2)

    assert drawn(scores, torch.tensor([[0.0], [1 - 2**-53]], dtype=torch.float64)) == [1, 2]
