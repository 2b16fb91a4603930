"""Sampling in which each row has random numbers of its own: what it draws does not hang on the rest of the batch."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch


class RowSampling:
    """Draws each row's token by inverting its distribution function; a `shared_prefix.Draw`.

    Args:
        temperature: What the logits are divided by.
        uniforms: (B, C), in [0, 1): row b's random number for its c-th token.
    """

    def __init__(self, temperature: float, uniforms: torch.Tensor) -> None:
        self._temperature = temperature
        self._columns = iter(uniforms.T)

    def __call__(self, logits: torch.Tensor, alive: Sequence[int]) -> list[int]:
        """The next token of each row that goes on."""
        below = (logits.double() / self._temperature).softmax(-1).cumsum(-1)  # (R, V)
        if not below[:, -1].isfinite().all():
            raise RuntimeError("probability tensor contains nan")  # in the words of `torch.multinomial`
        wanted = next(self._columns)[list(alive)].to(below) * below[:, -1]
        drawn: list[int] = torch.searchsorted(below, wanted[:, None], right=True)[:, 0].tolist()
        return drawn  # none of probability 0


def uniforms(keys: Sequence[str], length: int) -> torch.Tensor:
    """(B, C) random numbers in [0, 1); a row's hang on its key alone."""
    return torch.stack([torch.rand(length, generator=_generator(key), dtype=torch.float64) for key in keys])


def _generator(key: str) -> torch.Generator:
    seed = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=7).digest(), "little")
    return torch.Generator().manual_seed(seed)
