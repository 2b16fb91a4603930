from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import distributed
from torch.distributed.tensor import DTensor

from prlm_cli.models.sharding import is_sharded, shard
from prlm_cli.training import shared_prefix
from tests.training.tiny import adapted, largest_difference


@pytest.fixture
def group():
    """A group of this process alone; `test_several_processes` has two."""
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def _gradients(model):
    model.zero_grad()
    scored = shared_prefix.score_group(model, [3, 4, 5, 6], [[8, 9, 10], [11, 12]], 1.0)
    sum(completion.logps.sum() for completion in scored).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}


def test_the_frozen_weights_of_layers_are_in_parts_and_nothing_else_changes(group):
    whole = deepcopy(adapted("llama")).train()
    model = deepcopy(whole)

    shard(model)

    assert is_sharded(model) and not is_sharded(whole)
    for name, parameter in model.named_parameters():
        assert isinstance(parameter, DTensor) == (".layers." in name and not parameter.requires_grad), name
    assert largest_difference(_gradients(model), _gradients(whole)) < 1e-6
    with torch.no_grad():
        assert torch.equal(model(torch.tensor([[3, 4, 5]])).logits, whole(torch.tensor([[3, 4, 5]])).logits)
