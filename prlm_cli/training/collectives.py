"""What the processes of one training say to each other. Unconnected, a process is all there is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from functools import cache
from itertools import chain
from typing import Any, TypeVar

import torch
from torch import distributed
from torch.distributed.rendezvous import rendezvous

from prlm_cli.core import ranks
from prlm_cli.core.errors import PrlmError

Result = TypeVar("Result")
Item = TypeVar("Item")

_START_UP = timedelta(minutes=5)  # from the first process that is here to the last
_PATIENCE = timedelta(days=1)  # an answer of one process may take long, and one that is gone is noticed at once
_LOOK_EVERY = 0.2  # seconds; between two looks a signal gets through
_READY, _FAILED = "prlm/ready", "prlm/failed"


class PeerFailed(PrlmError):
    """Another process of the training failed; it says why."""

    exit_code = 70


def from_main(work: Callable[[], Result]) -> Result:
    """What `work` gives in the main process, in all of them; from here on they are connected.

    The main process does it as if it were the only one, however long it takes; the others wait.

    Raises:
        PeerFailed: In the others, if it fails.
    """
    given: list[Any] = [_work_alone(work) if ranks.is_main() else None]
    if not ranks.is_main():
        _wait_for_main()
    if torch.cuda.is_available():
        torch.cuda.set_device(ranks.local_rank())
    distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo",
        store=_store(),
        rank=ranks.rank(),
        world_size=ranks.world_size(),
        timeout=_PATIENCE,
    )
    distributed.broadcast_object_list(given)
    result: Result = given[0]
    return result


def disconnect() -> None:
    """Ends the connection that `from_main` made."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def wait_for_all() -> None:
    """Returns once every process is here."""
    highest(0)


def highest(number: int) -> int:
    """The highest number that a process says; all must say one."""
    return max(joined([number])[0])


def joined(own: Sequence[Item]) -> tuple[list[Item], int]:
    """What all processes have, in the order of their ranks, and where in it this one's own begins; all must call it."""
    if not distributed.is_initialized():
        return list(own), 0
    parts: list[Sequence[Item]] = [[]] * distributed.get_world_size()
    distributed.all_gather_object(parts, own)
    before = parts[: distributed.get_rank()]
    return list(chain.from_iterable(parts)), sum(map(len, before))


def average_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Puts the mean over all processes into each gradient; the same parameters have one in all of them."""
    if not distributed.is_initialized():
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    mean = torch.cat([gradient.flatten() for gradient in gradients])  # one message, not hundreds of small ones
    distributed.all_reduce(mean)
    mean /= distributed.get_world_size()
    parts = torch.split(mean, [gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


@cache
def is_first_to_fail() -> bool:
    """Whether no other process failed before this one: what fails after it is an echo, and need not be said."""
    try:
        return bool(_store().add(_FAILED, 1) == 1)
    except RuntimeError:  # who kept the count is gone
        return False


def _work_alone(work: Callable[[], Result]) -> Result:
    try:
        with ranks.alone():
            result = work()
    except Exception:
        is_first_to_fail()  # before the others hear of it
        _store().set(_READY, "failed")
        raise
    _store().set(_READY, "done")
    return result


def _wait_for_main() -> None:
    # Looking now and then, instead of a collective, which would stop waiting some day and let no signal through.
    while not _store().check([_READY]):
        time.sleep(_LOOK_EVERY)
    if _store().get(_READY) == b"failed":
        raise PeerFailed("the main process failed", hint="see what it says")


@cache
def _store() -> Any:
    """What all processes read and write: the launcher's."""
    store, _, _ = next(rendezvous("env://", timeout=_START_UP))
    return store
