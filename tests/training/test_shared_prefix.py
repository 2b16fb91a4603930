from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GenerationConfig

from prlm_cli.training.shared_prefix import rollouts, score_group, why_not
from tests.training.tiny import KINDS, VOCABULARY, adapted, mistral_config

_TOKENS = st.integers(1, VOCABULARY - 1)
_PROMPTS = st.lists(_TOKENS, min_size=1, max_size=24)
_GROUPS = st.lists(st.lists(_TOKENS, min_size=1, max_size=9), min_size=1, max_size=5)


def _row_by_row(model, prompt, completions, temperature):
    """Log-probabilities and entropies of each completion, each in a row of its own."""
    for completion in completions:
        logits = model(input_ids=torch.tensor([[*prompt, *completion]])).logits[0, len(prompt) - 1 : -1]
        all_logps = (logits / temperature).log_softmax(-1)
        yield all_logps.gather(-1, torch.tensor(completion)[:, None])[:, 0], -(all_logps.exp() * all_logps).sum(-1)


def _gradient(model, rows):
    """The log-probabilities, and the gradient of a sum that weighs each differently."""
    model.zero_grad()
    logps = torch.cat([logps for logps, _ in rows])
    (logps * torch.linspace(-1, 2, len(logps))).sum().backward()
    return logps, torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25)
@given(prompt=_PROMPTS, completions=_GROUPS, temperature=st.sampled_from([0.3, 0.7, 1.0, 2.0]))
def test_a_packed_group_scores_like_rows_of_its_own(kind, prompt, completions, temperature):
    model = adapted(kind)
    packed = score_group(model, prompt, completions, temperature)
    rows = list(_row_by_row(model, prompt, completions, temperature))

    logps, gradient = _gradient(model, packed)
    expected_logps, expected_gradient = _gradient(model, rows)

    assert [len(found.logps) for found in packed] == list(map(len, completions))
    assert torch.allclose(logps, expected_logps, atol=1e-4)
    assert torch.allclose(torch.cat([e for _, e in packed]), torch.cat([e for _, e in rows]), atol=1e-4)
    assert (gradient - expected_gradient).norm() <= 1e-4 * expected_gradient.norm()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sampled", [False, True], ids=["greedy", "sampled"])
def test_rollouts_draw_the_tokens_of_stock_generate(kind, sampled):
    model, longest = adapted(kind), 11
    prompts = [[5, 9, 2, 30, 4, 4, 17, 8, 1, 50, 3], [7, 8], [60, 1, 2, 3, 4]]
    how = GenerationConfig(
        max_new_tokens=12, do_sample=sampled, top_k=0, temperature=1.3, eos_token_id=[0, 13], pad_token_id=0
    )
    ids = torch.tensor([[0] * (longest - len(p)) + p for p in prompts]).repeat_interleave(4, dim=0)
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts]).repeat_interleave(4, dim=0)

    torch.manual_seed(3)
    expected = model.generate(input_ids=ids, attention_mask=mask, generation_config=how)[:, longest:]
    torch.manual_seed(3)
    found = rollouts(model, prompts, 4, pad_id=0, generation_config=how)

    assert found.tolist() == expected.tolist()
    assert len({tuple(row) for row in found.tolist()}) >= (12 if sampled else 2)


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
        ({"sliding_window": None, "attn_implementation": "sdpa"}, "^$"),
    ],
    ids=["chunks", "sliding window", "flash attention", "flex attention", "scaled logits", "none of these"],
)
def test_the_reason_why_a_prompt_cannot_be_shared(fields, reason):
    assert re.search(reason, why_not(_with_config(mistral_config(**fields))))
