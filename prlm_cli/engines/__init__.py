"""Engines: prompts -> completions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol


class Completion(NamedTuple):
    """What a policy wrote: its text, how many tokens, and whether it was cut at the limit."""

    text: str
    tokens: int
    truncated: bool


class Engine(Protocol):
    """Completes prompts."""

    @property
    def decoding(self) -> dict[str, Any]:
        """What a completion depends on, besides its prompt, its key and the policy."""
        ...

    def complete(self, prompts: Sequence[list[int]], keys: Sequence[str]) -> Iterator[dict[int, Completion]]:
        """The completions by the places of their prompts, as they are done: batch by batch, or one by one.

        Args:
            prompts: Ids of tokens.
            keys: What seeds the sampling of each, whatever batch it falls into.
        """
        ...


def in_order(completions: Iterable[Mapping[int, Completion]]) -> list[Completion]:
    """What an engine completes, once all of it is done, in the order of the prompts."""
    found: dict[int, Completion] = {}
    for some in completions:
        found.update(some)
    return [found[place] for place in range(len(found))]


def by_length(prompts: Sequence[list[int]], size: int) -> Iterator[list[int]]:
    """The places of the prompts in batches, those of similar length together: that takes little padding."""
    order = sorted(range(len(prompts)), key=lambda n: len(prompts[n]))
    for start in range(0, len(order), size):
        yield order[start : start + size]
