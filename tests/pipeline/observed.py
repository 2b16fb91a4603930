"""`prlm` as one of several processes that share a base; each says at its end, on stderr, what it saw of that.

With `OUT_OF_MEMORY` in the environment, memory runs out in the second process's second pass.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import torch
from torch.distributed.tensor import DTensor

from prlm_cli.cli import main
from prlm_cli.models import sharding
from prlm_cli.training import bounded_trainer
from prlm_cli.training.bounded_trainer import BoundedTrainer

_OBSERVED = "observed: "
_seen: dict[str, Any] = {"held": 0, "of": 0, "own passes": [], "passes": []}


def observations(stderr: str) -> list[dict[str, Any]]:
    """What each said: the weights of layers that it held, of how many; its own passes of each step, and all it made."""
    lines = [line for line in stderr.splitlines() if line.startswith(_OBSERVED)]
    return [json.loads(line.removeprefix(_OBSERVED)) for line in lines]


def _shard(model: Any) -> None:
    _sharding_alone(model)
    parts = [parameter for parameter in model.parameters() if isinstance(parameter, DTensor)]
    _seen["held"] = sum(part.to_local().numel() for part in parts)
    _seen["of"] = sum(part.numel() for part in parts)


def _pass_by_pass(self: Any, *given: Any) -> Any:
    _seen["own passes"].append(0)
    _seen["passes"].append(0)
    return _passing_alone(self, *given)


def _score(self: Any, *given: Any) -> Any:
    if torch.is_grad_enabled():
        _seen["own passes"][-1] += 1
        _seen["passes"][-1] += 1
        if "OUT_OF_MEMORY" in os.environ and os.environ["RANK"] == "1" and _seen["own passes"] == [2]:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    return _scoring_alone(self, *given)


def _pass_along(model: Any) -> torch.Tensor:
    _seen["passes"][-1] += 1
    return _passing_along(model)


_sharding_alone, _passing_along = sharding.shard, sharding.pass_along
_passing_alone, _scoring_alone = BoundedTrainer._pass_by_pass, BoundedTrainer._score

if __name__ == "__main__":
    sharding.shard, bounded_trainer.pass_along = _shard, _pass_along
    BoundedTrainer._pass_by_pass, BoundedTrainer._score = _pass_by_pass, _score  # type: ignore[method-assign]
    try:
        main()
    finally:
        sys.stderr.write(f"{_OBSERVED}{json.dumps(_seen)}\n")
