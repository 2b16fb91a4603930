"""Which of several processes this is, where a launcher (`accelerate launch`, `torchrun`) started several for one run.

The launcher says so in environment variables; without them there is one process, of rank 0.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

_RANK, _LOCAL_RANK, _WORLD_SIZE = "RANK", "LOCAL_RANK", "WORLD_SIZE"
_OF_A_LAUNCHER = ("ACCELERATE_", "FSDP_", "LOCAL_WORLD_SIZE")


def rank() -> int:
    """The number of this process among all."""
    return int(os.environ[_RANK]) if world_size() > 1 else 0


def local_rank() -> int:
    """The number of this process among those of its machine, and so of its GPU."""
    return int(os.environ[_LOCAL_RANK]) if world_size() > 1 else 0


def world_size() -> int:
    """How many processes there are; a cluster may set `WORLD_SIZE` alone, which makes no process one of several."""
    launched = _RANK in os.environ and _LOCAL_RANK in os.environ
    return int(os.environ.get(_WORLD_SIZE, "1")) if launched else 1


def is_main() -> bool:
    """Whether this process is the one that writes and speaks."""
    return rank() == 0


def asks_for_fsdp() -> bool:
    """Whether the launcher asks for FSDP."""
    return os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true"


@contextmanager
def alone() -> Iterator[None]:
    """A block in which this process knows of no others, and so trains a model by itself."""
    hidden = {
        name: value
        for name, value in os.environ.items()
        if name in (_RANK, _LOCAL_RANK, _WORLD_SIZE) or name.startswith(_OF_A_LAUNCHER)
    }
    for name in hidden:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ |= hidden
