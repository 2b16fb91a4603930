"""Ours in bf16 beside ours in fp32, on a CPU: how much faster, and how far apart; nothing where there is a GPU.

What there is to gain hangs on the processor: one without instructions for bf16 is no faster.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch

from tests.bench.figures import Figures, cpu_timed, interleaved, progress, ratio
from tests.bench.training_parts.sides import SIZES, Size, drawn_by_us, embedded_policy, random_group, scored_by_us


def measure_precision(
    figures: Figures, rounds: int, models: Mapping[str, Any] | None = None, sizes: Sequence[Size] = SIZES[:2]
) -> None:
    """Adds the speed of a forward and backward pass and of rollouts, and the largest difference of log-probabilities.

    Args:
        figures: Takes them.
        rounds: How often each is timed.
        models: "bf16" and "fp32"; default: the embedded one.
        sizes: Of the group.
    """
    if models is None and torch.cuda.is_available():
        progress("not on a GPU, where models are in bf16")
        return
    models = models or {"bf16": embedded_policy("bf16"), "fp32": embedded_policy()}
    differences = [_measure_size(figures, rounds, models, size) for size in sizes]
    figures.add("bf16_logp_max_difference", max(differences), "nats")


def _measure_size(figures: Figures, rounds: int, models: Mapping[str, Any], size: Size) -> float:
    """Adds the speed at a size; the largest difference of log-probabilities."""
    group = random_group(size, models["fp32"].config.vocab_size)
    logps: dict[str, torch.Tensor] = {}

    def train(name: str) -> None:
        mixed = partial(torch.autocast, "cpu", torch.bfloat16, enabled=name == "bf16")  # as the trainer has it
        found = scored_by_us(models[name], [group], mixed)
        found.sum().backward()
        logps[name] = found.detach()

    def draw(name: str) -> None:
        drawn_by_us(models[name], [group.prompt], size, [])

    for what, work in {"forward_backward": train, "rollout": draw}.items():
        taken = interleaved(rounds, {name: cpu_timed(partial(work, name)) for name in models})
        figures.add(f"bf16_{what}_speedup_{size.name}", ratio(taken["fp32"], taken["bf16"]), "x")
    return float((logps["bf16"] - logps["fp32"]).abs().max())
