"""Forward and backward pass over one group: how much faster ours is, how much less it keeps, and that it is the same.

The head is not what is compared: both sides pass only completion tokens through it, as stock TRL does on a GPU but not
on a CPU. What is left is the saving of the prompt alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import psutil
import torch

from tests.bench.figures import Figures, cpu_timed, interleaved, progress, ratio
from tests.bench.training_parts.plan import kept_bytes
from tests.bench.training_parts.sides import (
    SIZES,
    Group,
    Size,
    embedded_policy,
    head_on_completions,
    random_group,
    scored_by_stock,
    scored_by_us,
)

SAVED_BYTES = SIZES[0]
_STOCK_BYTES_A_TOKEN = 2.3e6  # at the peak of the embedded model without checkpointing; 1.9e6 measured at P = 1024
_RAGGED = [1, 5, 24, 17]

Side = Callable[[Any, list[Group]], torch.Tensor]
SIDES: dict[str, Side] = {"stock": scored_by_stock, "ours": scored_by_us}


class Difference(NamedTuple):
    """Between the two sides: of log-probabilities, in nats, and of the gradient, relative to its norm."""

    logps: float
    gradient: float


def measure_scoring(figures: Figures, rounds: int, model: Any = None, sizes: Sequence[Size] = SIZES) -> None:
    """Adds the speed at each size, the bytes kept at the first one, and the largest differences."""
    model = model or embedded_policy()
    vocabulary = model.config.vocab_size
    with head_on_completions():
        for size in sizes:
            _checkpoint(model, size)
            _add_speed(figures, rounds, model, size, random_group(size, vocabulary))
        _checkpoint(model, None)
        group = random_group(sizes[0], vocabulary)
        kept = {name: kept_bytes(model, lambda side=side: side(model, [group])) for name, side in SIDES.items()}
        for name, size_bytes in kept.items():
            figures.add(f"saved_mib_{name}_{sizes[0].name}", size_bytes / 2**20, "MiB")
        figures.add(f"saved_bytes_ratio_{sizes[0].name}", kept["ours"] / kept["stock"], "ratio")
        # Prompts of two lengths and ragged completions: padded on the left and on the right.
        ragged = [random_group(Size(n, 24, 4), vocabulary, lengths=_RAGGED) for n in (96, 61)]
        found = [difference(model, ragged), difference(model, [group])]
    figures.add("logp_max_difference", max(one.logps for one in found), "nats")
    figures.add("grad_relative_error", max(one.gradient for one in found), "relative")


def difference(model: Any, groups: list[Group]) -> Difference:
    """How far the two sides are apart."""
    found = {}
    for name, side in SIDES.items():
        logps = side(model, groups)
        found[name] = (logps.detach(), _gradient(model, logps))
    (stock, stock_gradient), (ours, our_gradient) = found["stock"], found["ours"]
    relative = (our_gradient - stock_gradient).norm() / stock_gradient.norm()
    return Difference(float((ours - stock).abs().max()), float(relative))


def _gradient(model: Any, logps: torch.Tensor) -> torch.Tensor:
    """The adapter's, of a sum that weighs each token differently."""
    model.zero_grad()
    (logps * torch.linspace(-1, 2, len(logps), device=logps.device)).sum().backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def _add_speed(figures: Figures, rounds: int, model: Any, size: Size, group: Group) -> None:
    measures = {
        name: cpu_timed(lambda side=side: _gradient(model, side(model, [group])))
        for name, side in reversed(SIDES.items())
    }
    taken = interleaved(rounds, measures)
    speedup = ratio(taken["stock"], taken["ours"])
    for name, seconds in taken.items():
        figures.add(f"forward_backward_s_{name}_{size.name}", min(seconds), "CPU s")
    figures.add(f"limit_{size.name}", size.limit, "x")
    figures.add(f"forward_backward_speedup_{size.name}", speedup, "x")
    figures.add(f"limit_share_{size.name}", speedup / size.limit, "share")


def _checkpoint(model: Any, size: Size | None) -> None:
    """Keeps activations, as a training on a CPU does, unless the stock side would not fit: then neither side does."""
    tokens = size.group * (size.prompt + size.completion) if size else 0
    if tokens * _STOCK_BYTES_A_TOKEN > psutil.virtual_memory().available:
        progress(f"{size.name if size else ''}: too little memory, both sides with gradient checkpointing")
        model.activation_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    else:
        model.activation_checkpointing_disable()
