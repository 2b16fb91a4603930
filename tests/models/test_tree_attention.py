from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention.flex_attention import create_mask, flex_attention
from torch.nn.functional import scaled_dot_product_attention
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from prlm_cli.models.packing import Tree, pack
from prlm_cli.models.tree_attention import attend, block_mask, compiles_flex_attention, dense_mask, rule
from tests.models.test_packing import TREES

_MODEL = SimpleNamespace(device=torch.device("cpu"), dtype=torch.float32)
_LAYER = SimpleNamespace(num_key_value_groups=2, is_causal=True, training=False)
_LONG = Tree(list(range(1, 150)), [list(range(1, 60))] * 3)  # more than one block of 128


def _rule(rows, window):
    return rule(rows.segments, rows.position_ids, window)


def _states(rows, *, heads=(4, 2, 2)):
    torch.manual_seed(0)
    batch, length = rows.segments.shape
    return [torch.randn(batch, of_kind, length, 8, requires_grad=True) for of_kind in heads]


@given(trees=TREES, window=st.none() | st.integers(1, 8), start=st.integers(0, 5))
def test_the_dense_mask_and_the_blocks_of_flex_attention_follow_one_rule(trees, window, start):
    rows = pack(trees)
    batch, length = rows.segments.shape
    start = min(start, length)

    by_rule = create_mask(_rule(rows, window), batch, 1, length, length, device="cpu")
    dense = dense_mask(_rule(rows, window), rows.segments.shape, start, _MODEL)

    assert torch.equal(dense == 0, by_rule[:, :, start:])
    assert (dense[~by_rule[:, :, start:]] == torch.finfo(torch.float32).min).all()


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("window", [None, 40])
def test_blocks_give_what_the_dense_mask_gives(window):
    rows = pack([_LONG])
    query, key, value = (states.detach() for states in _states(rows, heads=(4, 4, 4)))
    blocks = block_mask(_rule(rows, window), rows.segments.shape, torch.device("cpu"))
    dense = dense_mask(_rule(rows, window), rows.segments.shape, 0, _MODEL)

    found = flex_attention(query, key, value, block_mask=blocks)

    assert torch.allclose(found, scaled_dot_product_attention(query, key, value, attn_mask=dense), atol=1e-5)
    assert window is not None or blocks.sparsity() > 0


@settings(max_examples=50)
@given(trees=TREES, share=st.floats(0, 1))
def test_prompts_without_a_mask_are_attended_to_as_with_it(trees, share):
    rows = pack(trees)
    start = int(share * min(len(tree.prompt) - 1 for tree in trees))
    whole = dense_mask(_rule(rows, None), rows.segments.shape, 0, _MODEL)
    states = _states(rows)
    weight = torch.randn(*rows.segments.shape, 4, 8)

    expected, _ = attend(_LAYER, *states, whole)
    of_expected = torch.autograd.grad((expected * weight).sum(), states)
    found, _ = attend(_LAYER, *states, whole[:, :, start:])
    of_found = torch.autograd.grad((found * weight).sum(), states)

    assert torch.allclose(found, expected, atol=1e-5)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(of_found, of_expected, strict=True))


@pytest.mark.parametrize("masked", [False, True])
def test_all_other_input_is_left_to_sdpa(masked):
    rows = pack([_LONG])
    states = _states(rows)
    mask = dense_mask(_rule(rows, None), rows.segments.shape, 0, _MODEL) if masked else None

    assert torch.equal(attend(_LAYER, *states, mask)[0], sdpa_attention_forward(_LAYER, *states, mask)[0])


def test_flex_attention_is_left_alone_on_a_cpu():
    assert not compiles_flex_attention(torch.device("cpu"))
