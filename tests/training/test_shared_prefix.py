from __future__ import annotations

import re
from functools import cache
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GenerationConfig

from prlm_cli.models.packing import backbone
from prlm_cli.training.shared_prefix import StreamSampling, rollouts, score_group, why_not
from tests.training.stock import padded, scored_by_trl, with_trl_head
from tests.training.tiny import KINDS, VOCABULARY, adapted, mistral_config, quantised

_TEMPERATURE = 0.7
_TOKENS = st.integers(1, VOCABULARY - 1)
_PROMPTS = st.lists(_TOKENS, min_size=1, max_size=24)
_COMPLETIONS = st.lists(st.lists(_TOKENS, min_size=1, max_size=9), min_size=1, max_size=4)
_BATCHES = st.lists(st.tuples(_PROMPTS, _COMPLETIONS), min_size=1, max_size=3)
_STOPS = (0, 13, 14, 15, 16, 17, 18, 19)


@cache
def _stock(kind):
    """A model with the weights of `adapted`, as TRL's trainer prepares it."""
    return with_trl_head(adapted.__wrapped__(kind), _TEMPERATURE)


def _scored_by_us(model, batch):
    scored = [one for prompt, group in batch for one in score_group(model, prompt, group, _TEMPERATURE)]
    return torch.cat([one.logps for one in scored]), torch.cat([one.entropies for one in scored])


def _gradient(model, logps):
    """That of a sum which weighs each token differently."""
    model.zero_grad()
    (logps * torch.linspace(-1, 2, len(logps))).sum().backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def _assert_equal(ours, stock, batch):
    logps, entropies = _scored_by_us(ours, batch)
    expected_logps, expected_entropies = scored_by_trl(stock, batch)
    assert (logps - expected_logps).abs().max() <= 1e-4
    assert (entropies - expected_entropies).abs().max() <= 1e-4
    gradient, expected = _gradient(ours, logps), _gradient(stock, expected_logps)
    assert expected.norm() > 0
    assert (gradient - expected).norm() <= 1e-4 * expected.norm()


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=20)
@given(batch=_BATCHES)
def test_packed_groups_score_like_stock_trl(kind, batch):
    _assert_equal(adapted(kind), _stock(kind), batch)


@pytest.fixture(scope="module", params=["llama", "qwen2", "gemma3, one layer slides", "gemma3, longer window"])
def quantised_pair(request, tmp_path_factory):
    """Two equal 4-bit models with equal adapters, one of them prepared by TRL."""
    ours, stock = (quantised(request.param, tmp_path_factory.mktemp("quantised")) for _ in range(2))
    return ours, with_trl_head(stock, _TEMPERATURE)


@settings(max_examples=12)
@given(batch=_BATCHES)
def test_packed_groups_of_a_4_bit_model_score_like_stock_trl(quantised_pair, batch):
    _assert_equal(*quantised_pair, batch)


def _generated(kind, prompts, group_size, temperature, length):
    """What stock `generate` draws, up to and with the first token that ends a completion."""
    ids, mask = padded([prompt for prompt in prompts for _ in range(group_size)], left=True)
    how = GenerationConfig(
        max_new_tokens=length,
        do_sample=True,
        top_k=0,
        temperature=temperature,
        eos_token_id=list(_STOPS),
        pad_token_id=0,
    )
    rows = _stock(kind).generate(input_ids=ids, attention_mask=mask, generation_config=how)[:, ids.shape[1] :].tolist()
    return [row[: next((n + 1 for n, token in enumerate(row) if token in _STOPS), length)] for row in rows]


def _drawn(kind, prompts, group_size, temperature, length):
    draw = StreamSampling(temperature, len(prompts) * group_size)
    return rollouts(adapted(kind), prompts, group_size, draw=draw, max_new_tokens=length, stop_ids=_STOPS)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=10)
@given(
    prompts=st.lists(_PROMPTS, min_size=1, max_size=3),
    group_size=st.integers(1, 4),
    temperature=st.sampled_from([0.1, 0.7, 1.3]),
    length=st.integers(1, 12),
    seed=st.integers(0, 1000),
)
def test_rollouts_draw_the_tokens_of_stock_generate_and_leave_its_random_stream(
    kind, prompts, group_size, temperature, length, seed
):
    torch.manual_seed(seed)
    expected = _generated(kind, prompts, group_size, temperature, length), torch.rand(1)
    torch.manual_seed(seed)
    found = _drawn(kind, prompts, group_size, temperature, length), torch.rand(1)

    assert found == expected


def test_a_prompt_is_read_once_and_a_row_that_has_ended_no_more():
    model, prompts, fed = adapted("llama"), [[5, 9, 2, 30], [7, 8, 3, 2], [60, 1, 2, 3]], []
    hook = backbone(model).register_forward_pre_hook(
        lambda _, args, inputs: fed.append(tuple(inputs["input_ids"].shape)), with_kwargs=True
    )
    # Of three prompts' two completions each, these end with the first, second, ... token; 99 with none.
    ends = {0: 1, 1: 2, 2: 1, 3: 3, 4: 4, 5: 99}

    def draw(logits, rows):
        assert len(logits) == len(rows)
        return [_STOPS[0] if len(fed) - 1 == ends[row] else 50 for row in rows]

    with hook:
        completions = rollouts(model, prompts, 2, draw=draw, max_new_tokens=6, stop_ids=_STOPS)

    assert [len(completion) for completion in completions] == [1, 2, 1, 3, 4, 6]
    # The prompts without their last tokens; then prompts that still grow, by as many rows as the one with the most.
    assert fed == [(3, 3), (3, 2), (3, 2), (2, 2), (1, 2), (1, 1), (1, 1)]


def _with_config(config):
    model = SimpleNamespace(config=config, forward=lambda position_ids: None)
    model.base_model = model
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_attention_whole_or_in_a_window_is_shared(kind):
    assert why_not(adapted(kind)) == ""


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"layer_types": ["chunked_attention", "full_attention"], "attn_implementation": "sdpa"}, "in a window"),
        ({"sliding_window": 8, "attn_implementation": "sdpa"}, "^$"),
        ({"sliding_window": None, "attn_implementation": "flash_attention_2"}, "no arbitrary mask"),
        ({"sliding_window": None, "attn_implementation": "flex_attention"}, "no arbitrary mask"),
        ({"sliding_window": None, "attn_implementation": "sdpa", "logit_scale": 0.5}, "after the head"),
        ({"sliding_window": None, "attn_implementation": "sdpa", "logits_scaling": 8.0}, "after the head"),
        ({"sliding_window": None, "attn_implementation": "sdpa"}, "^$"),
    ],
    ids=[
        "chunks",
        "sliding window",
        "flash attention",
        "flex attention",
        "scaled logits",
        "logits divided",
        "none of these",
    ],
)
def test_the_reason_why_a_prompt_cannot_be_shared(fields, reason):
    assert re.search(reason, why_not(_with_config(mistral_config(**fields))))
