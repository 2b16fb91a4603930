"""A model whose frozen weights lie in parts in several processes (FSDP): a layer is whole only while it computes.

Every process must pass through the layers equally often, forward and backward; one that is done goes on for the others.
"""

from __future__ import annotations

from typing import Any

from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from prlm_cli.models.loading import device_and_dtype
from prlm_cli.models.packing import backbone


def shard(model: Any) -> None:
    """Leaves this process its part of each layer's frozen weights, and brings the model to its device.

    What is trained stays whole in each process, and so do embeddings and head.

    Args:
        model: With its adapter; on the CPU, where it need not fit the device.
    """
    device, _ = device_and_dtype()
    mesh = init_device_mesh(device.partition(":")[0], (distributed.get_world_size(),))
    for layer in backbone(model).layers:
        trained = {parameter for parameter in layer.parameters() if parameter.requires_grad}
        fully_shard(layer, mesh=mesh, ignored_params=trained, reshard_after_forward=True)
    model.to(device)
    # What the trainer wraps the model in would send all weights around.
    model._ddp_params_and_buffers_to_ignore = [n for n, p in model.named_parameters() if isinstance(p, DTensor)]


def is_sharded(model: Any) -> bool:
    """Whether this process has only parts of the model's weights."""
    return any(isinstance(parameter, DTensor) for parameter in model.parameters())
