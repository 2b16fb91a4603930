"""Sampling in which each row has random numbers of its own: what it draws does not hang on the rest of the batch."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch


class RowSampling:
    """Draws a token a row by inverting its distribution function; a logits processor of `generate`.

    `generate` then has to decode greedily: what it gets is certain.

    Args:
        temperature: What the logits are divided by.
        uniforms: (B, C), in [0, 1): row b's random number for its c-th token.
    """

    def __init__(self, temperature: float, uniforms: torch.Tensor) -> None:
        self._temperature = temperature
        self._columns = iter(uniforms.T)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """(B, V) scores -> 0 where the drawn token is, minus infinity elsewhere."""
        below = (scores.double() / self._temperature).softmax(-1).cumsum(-1)  # (B, V)
        wanted = next(self._columns).to(below) * below[:, -1]
        drawn = torch.searchsorted(below, wanted[:, None], right=True)  # (B, 1); no token of probability 0
        return torch.full_like(scores, -torch.inf).scatter(1, drawn, 0.0)


def uniforms(keys: Sequence[str], length: int) -> torch.Tensor:
    """(B, C) random numbers in [0, 1); a row's hang on its key alone."""
    return torch.stack([torch.rand(length, generator=_generator(key), dtype=torch.float64) for key in keys])


def _generator(key: str) -> torch.Generator:
    seed = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=7).digest(), "little")
    return torch.Generator().manual_seed(seed)
