from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from transformers import MistralForCausalLM

from prlm_cli.models.prefill import prefill_once
from tests.training.tiny import adapted, mistral_config

_PROMPTS = [[5, 9, 2, 30, 4, 4, 17, 8], [7, 8], [7, 8], [5, 9, 2, 30, 4, 4, 17, 8], [60, 1, 2], [0, 7, 8]]


def _batch(prompts):
    longest = max(map(len, prompts))
    ids = torch.tensor([[0] * (longest - len(p)) + p for p in prompts])
    return ids, torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])


@pytest.fixture(params=["full attention", "sliding window"])
def model(request):
    torch.manual_seed(0)
    if request.param == "full attention":
        return adapted("llama")
    return MistralForCausalLM(mistral_config(sliding_window=4))


def _written(model, ids, mask, **options):
    how = {"max_new_tokens": 10, "do_sample": False, "eos_token_id": 61, "pad_token_id": 0}
    return model.eval().generate(input_ids=ids, attention_mask=mask, **how, **options)[:, ids.shape[1] :].tolist()


def test_equal_prompts_are_computed_once_and_completed_as_before(model):
    ids, mask = _batch(_PROMPTS)
    seen = []
    layers = model.get_base_model() if hasattr(model, "get_base_model") else model
    hook = layers.base_model.register_forward_pre_hook(
        lambda _, args, inputs: seen.append(len(inputs["input_ids"])), with_kwargs=True
    )
    with torch.no_grad():
        once = prefill_once(model, ids, mask)
    hook.remove()

    assert seen == [4]  # [0, 7, 8] is no [7, 8] with padding before it
    assert _written(model, ids, mask, **once) == _written(model, ids, mask)


@pytest.mark.parametrize("prompts", [[[5, 9], [7, 8]], [[5], [5]]], ids=["all different", "one token"])
def test_where_nothing_is_saved_nothing_is_computed(model, prompts):
    assert prefill_once(model, *_batch(prompts)) == {}


def test_a_model_whose_layers_keep_something_else_is_left_alone():
    config = mistral_config(layer_types=["linear_attention", "full_attention"])

    assert prefill_once(SimpleNamespace(config=config), *_batch(_PROMPTS)) == {}
