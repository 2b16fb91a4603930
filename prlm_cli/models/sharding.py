"""A model whose frozen weights lie in parts in several processes (FSDP): a layer is whole only while it computes.

Before a layer computes, and before it is passed back, each process waits for the parts of the others. So all must pass
through the model equally often: one that is done before the others passes along with them (`pass_along`). For what each
does by itself, as decoding, all weights are gathered for a while (`whole`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from transformers.modeling_layers import GradientCheckpointingLayer

from prlm_cli.core.errors import SettingsError
from prlm_cli.models.loading import device_and_dtype
from prlm_cli.models.packing import backbone


def shard(model: Any) -> None:
    """Leaves this process its part of each layer's frozen weights, and brings the model to its device.

    What is trained stays whole in each process, and so do embeddings and head.

    Args:
        model: With its adapter; on the CPU, where it need not fit the device.

    Raises:
        SettingsError: If it has no layers that the library knows as such.
    """
    layers = [module for module in backbone(model).modules() if isinstance(module, GradientCheckpointingLayer)]
    if not layers:
        raise SettingsError("this model's layers cannot be in parts", hint="leave out policy.shard_base")
    device, _ = device_and_dtype()
    mesh = init_device_mesh(device.partition(":")[0], (distributed.get_world_size(),))
    for layer in layers:
        trained = {parameter for parameter in layer.parameters() if parameter.requires_grad}
        fully_shard(layer, mesh=mesh, ignored_params=trained, reshard_after_forward=True)
    # Without parts of its own: it lets the layers share streams, so that one is fetched while the last computes.
    fully_shard(backbone(model), mesh=mesh, ignored_params=set(model.parameters()))
    model.to(device)


def is_sharded(model: Any) -> bool:
    """Whether `shard` was applied to the model."""
    return isinstance(backbone(model), FSDPModule)


@contextmanager
def whole(model: Any) -> Iterator[None]:
    """A block in which each process has all weights, and passes through the model by itself, without a gradient.

    All processes must enter it. A model that is not in parts stays as it is.
    """
    parts = [module for module in backbone(model).modules() if isinstance(module, FSDPModule)]
    for part in parts:
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()
    try:
        yield
    finally:
        for part in parts:
            part.set_reshard_after_forward(True, recurse=False)
            part.reshard()


def pass_along(model: Any) -> torch.Tensor:
    """Zero, from one token's pass through the layers: its gradient, of zeros, passes back through them as well."""
    token = torch.zeros(1, 1, dtype=torch.long, device=model.device)
    states: torch.Tensor = backbone(model)(input_ids=token, use_cache=False).last_hidden_state
    return 0.0 * states.sum()
