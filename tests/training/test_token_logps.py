from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prlm_cli.training import token_logps as module
from prlm_cli.training.token_logps import token_logps

_WIDTH, _VOCABULARY = 6, 11


def _plain(hidden, head, targets, temperature):
    """The whole computation at once, by torch's own backward pass."""
    all_logps = (head(hidden).float() / temperature).log_softmax(-1)
    return all_logps.gather(-1, targets[:, None])[:, 0], -(all_logps.exp() * all_logps).sum(-1)


def _problem(tokens, seed=0, dtype=torch.float32):
    torch.manual_seed(seed)
    head = torch.nn.Linear(_WIDTH, _VOCABULARY, bias=bool(seed % 2), dtype=dtype).requires_grad_(False)
    hidden = torch.randn(tokens, _WIDTH, dtype=dtype, requires_grad=True)
    return hidden, head, torch.randint(_VOCABULARY, (tokens,))


@settings(max_examples=40)
@given(
    tokens=st.integers(1, 23),
    tile=st.integers(1, 60),
    temperature=st.sampled_from([0.3, 1.0, 2.0]),
    seed=st.integers(0, 9),
    entropy_gradient=st.booleans(),
)
def test_values_and_gradients_are_those_of_all_logits_at_once(tokens, tile, temperature, seed, entropy_gradient):
    hidden, head, targets = _problem(tokens, seed)
    weights = torch.randn(2, tokens)
    found, expected = [], []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "TILE", tile)
        options = {"entropy_gradient": entropy_gradient}
        for results, function, more in ((found, token_logps, options), (expected, _plain, {})):
            logps, entropies = function(hidden, head, targets, temperature, **more)
            loss = (weights[0] * logps).sum()
            if entropy_gradient:
                loss = loss + (weights[1] * entropies).sum()
            results += [logps, entropies, *torch.autograd.grad(loss, hidden)]

    for ours, theirs in zip(found, expected, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)


def test_entropies_have_a_gradient_only_where_it_is_asked_for():
    hidden, head, targets = _problem(5)

    assert not token_logps(hidden, head, targets, 1.0)[1].requires_grad
    assert token_logps(hidden, head, targets, 1.0, entropy_gradient=True)[1].requires_grad


def test_nothing_is_kept_without_a_gradient():
    hidden, head, targets = _problem(5)

    with torch.no_grad():
        logps, entropies = token_logps(hidden, head, targets, 1.0)

    assert not logps.requires_grad and not entropies.requires_grad


def test_what_is_kept_for_the_way_back_is_as_wide_as_the_model_and_not_as_the_vocabulary():
    hidden, head, targets = _problem(7)

    logps, _ = token_logps(hidden, head, targets, 1.0)

    assert [tensor.shape for tensor in logps.grad_fn.saved_tensors] == [(7, _WIDTH), (0,)]


def test_16_bit_states_keep_their_precision_and_give_fp32():
    hidden, head, targets = _problem(9, dtype=torch.bfloat16)

    logps, entropies = token_logps(hidden, head, targets, 0.7)
    expected, _ = _plain(hidden, head, targets, 0.7)
    (ours,), (theirs,) = (torch.autograd.grad(values.sum(), hidden) for values in (logps, expected))

    assert (logps.dtype, entropies.dtype, ours.dtype) == (torch.float32, torch.float32, torch.bfloat16)
    assert torch.equal(logps, expected)
    assert torch.allclose(ours, theirs, rtol=2e-2, atol=2e-2)
