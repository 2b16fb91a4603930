"""The log-probability of each token, without a row of the vocabulary kept for it.

The logits of a training pass are larger than all else: tokens times vocabulary, and several copies of it on the way
back. Here the head works on a tile of tokens at a time. A token's log-probability depends on its own state alone, so
its gradient by that state, one vector of the model's width, is found while the tile is there; the backward pass only
weighs these vectors, and computes no logits again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

TILE = 2**23
"""Logits at one time: 32 MiB in fp32."""


def token_logps(
    hidden: torch.Tensor,
    head: Callable[[torch.Tensor], torch.Tensor],
    targets: torch.Tensor,
    temperature: float,
    *,
    entropy_gradient: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities and entropies of N tokens, each (N,), in nats, fp32.

    Args:
        hidden: (N, D) states that predict the tokens; gradients flow to them, not to the head's own weights.
        head: The model's: (n, D) -> (n, V) logits, row by row.
        targets: (N,) the tokens.
        temperature: What the logits are divided by.
        entropy_gradient: Whether the entropies have a gradient as well.
    """
    logps, entropies = _TokenLogps.apply(hidden, head, targets, temperature, entropy_gradient)  # type: ignore[no-untyped-call]
    return logps, entropies


class _TokenLogps(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, head: Any, targets: torch.Tensor, temperature: float, entropy_gradient: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        trains = ctx.needs_input_grad[0]
        wanted = (trains, trains and entropy_gradient)
        rows = max(1, TILE // head.weight.shape[0])
        tiles = [
            _tile(states, head, tokens, temperature, wanted)
            for states, tokens in zip(torch.split(hidden, rows), torch.split(targets, rows), strict=True)
        ]
        logps, entropies, by_logps, by_entropies = map(torch.cat, zip(*tiles, strict=True))
        ctx.save_for_backward(by_logps, by_entropies)
        if not entropy_gradient:
            ctx.mark_non_differentiable(entropies)
        return logps, entropies

    @staticmethod
    def backward(ctx: Any, of_logps: torch.Tensor, of_entropies: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        by_logps, by_entropies = ctx.saved_tensors
        gradient = of_logps[:, None] * by_logps  # (N, D)
        if len(by_entropies):
            gradient = gradient + of_entropies[:, None] * by_entropies
        return gradient.to(by_logps.dtype), None, None, None, None


@torch.enable_grad()
def _tile(
    states: torch.Tensor, head: Any, targets: torch.Tensor, temperature: float, wanted: tuple[bool, bool]
) -> tuple[torch.Tensor, ...]:
    """Log-probabilities and entropies, (n,), and the gradient of each by the states, (n, D); empty if not wanted."""
    states = states.detach().requires_grad_(wanted[0])
    all_logps = (head(states).float() / temperature).log_softmax(-1)  # (n, V)
    logps = all_logps.gather(-1, targets[:, None])[:, 0]
    if not wanted[1]:
        all_logps = all_logps.detach()
    values = (logps, -(all_logps.exp() * all_logps).sum(-1))
    gradients = [
        torch.autograd.grad(value.sum(), states, retain_graph=True)[0] if is_wanted else states.new_empty(0)
        for value, is_wanted in zip(values, wanted, strict=True)
    ]
    return *(value.detach() for value in values), *gradients
