from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import distributed
from torch.distributed.tensor import DTensor
from transformers import OpenAIGPTConfig, OpenAIGPTLMHeadModel

from prlm_cli.core.errors import SettingsError
from prlm_cli.models.packing import backbone
from prlm_cli.models.sharding import is_sharded, pass_along, shard, whole
from prlm_cli.training import shared_prefix
from tests.training.tiny import adapted, largest_difference

_KINDS = ["llama", "gemma3, one layer slides"]


@pytest.fixture(autouse=True)
def group():
    """A group of this process alone."""
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.fixture(params=_KINDS)
def models(request):
    """A model, and the same in parts."""
    model = deepcopy(adapted(request.param)).train()
    sharded = deepcopy(model)
    shard(sharded)
    return model, sharded


def _gradients(model, *more):
    """Of a group's log-probabilities, and of more."""
    model.zero_grad()
    scored = shared_prefix.score_group(model, [3, 4, 5, 6], [[8, 9, 10], [11, 12]], 1.0)
    sum(completion.logps.sum() for completion in scored).backward()
    for one in more:
        one.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}


def _logits(model):
    with torch.no_grad():
        return model(torch.tensor([[3, 4, 5]])).logits


def _in_parts(model):
    return {name for name, parameter in model.named_parameters() if isinstance(parameter, DTensor)}


def test_the_frozen_weights_of_layers_are_in_parts_and_nothing_else_changes(models):
    model, sharded = models

    assert is_sharded(sharded) and not is_sharded(model)
    of_layers = {n for n, p in model.named_parameters() if ".layers." in n and not p.requires_grad}
    assert _in_parts(sharded) == of_layers
    assert largest_difference(_gradients(sharded), _gradients(model)) < 1e-6
    assert torch.equal(_logits(sharded), _logits(model))
    assert _in_parts(sharded) == of_layers


def test_a_layer_is_whole_only_while_it_computes_or_is_passed_back(models):
    _, sharded = models
    seen = []

    def see(*_):
        seen.append([not isinstance(layer.mlp.down_proj.base_layer.weight, DTensor) for layer in layers])

    layers = backbone(sharded).layers
    for layer in layers:
        layer.mlp.register_forward_pre_hook(see)
        layer.mlp.register_full_backward_hook(see)
    _gradients(sharded)

    first, second = [True, False], [False, True]
    assert seen == [first, second, second, first]


def test_gathered_weights_stay_so_until_the_end_of_the_block(models):
    model, sharded = models
    parts = _in_parts(sharded)

    with pytest.raises(ZeroDivisionError), whole(sharded):
        for _ in range(2):
            assert torch.equal(_logits(sharded), _logits(model))
            assert _in_parts(sharded) == set()
        raise ZeroDivisionError

    assert _in_parts(sharded) == parts
    assert largest_difference(_gradients(sharded), _gradients(model)) < 1e-6


def test_work_that_failed_in_the_middle_of_a_layer_can_be_done_again(models):
    model, sharded = models
    failures = iter([True])

    def fail(*_):
        if next(failures, False):
            raise ZeroDivisionError

    next(m for n, m in sharded.named_modules() if n.endswith("1.mlp")).register_forward_pre_hook(fail)
    with whole(sharded):
        with pytest.raises(ZeroDivisionError):
            _logits(sharded)
        assert torch.equal(_logits(sharded), _logits(model))

    assert largest_difference(_gradients(sharded), _gradients(model)) < 1e-6


def test_a_model_without_layers_known_as_such_is_an_error():
    sizes = {"vocab_size": 16, "n_embd": 8, "n_layer": 1, "n_head": 1, "n_positions": 8}

    with pytest.raises(SettingsError, match=r"layers cannot be in parts; leave out policy\.shard_base"):
        shard(OpenAIGPTLMHeadModel(OpenAIGPTConfig(**sizes)))


def test_a_model_that_is_whole_stays_as_it_is():
    model = deepcopy(adapted("llama"))
    before = _logits(model)

    with whole(model):
        assert torch.equal(_logits(model), before)


def test_passing_along_reaches_every_layer_and_changes_no_gradient(models):
    _, sharded = models
    expected = _gradients(sharded)
    reached = {p for n, p in sharded.named_parameters() if "lora_B" in n}
    sharded.zero_grad()

    nothing = pass_along(sharded)
    nothing.backward()

    assert nothing == 0
    assert all(p.grad is not None and not p.grad.any() for p in reached)
    assert largest_difference(_gradients(sharded, pass_along(sharded)), expected) == 0
