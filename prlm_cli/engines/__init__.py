"""Engines: prompts -> completions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class Completion(NamedTuple):
    """What a policy wrote: its text, how many tokens, and whether it was cut at the limit."""

    text: str
    tokens: int
    truncated: bool


class Engine(Protocol):
    """Completes prompts."""

    def complete(self, prompts: Sequence[list[int]], keys: Sequence[str]) -> list[Completion]:
        """One completion a prompt, in order. `keys` seed the sampling of each, whatever batch it falls into."""
        ...
