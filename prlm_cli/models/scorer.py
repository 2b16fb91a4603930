"""What scores how well an answer fits a query and its user's records: the reward model, or a rule without training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from prlm_cli.core.records import ProfileDocument


class Item(NamedTuple):
    """What is scored: a query's text, the records shown with it (best first), and an answer."""

    text: str
    profile: Sequence[ProfileDocument]
    answer: str


class Scorer(Protocol):
    """Scores items; the higher, the better the answer fits."""

    def scores(self, items: Sequence[Item], /) -> list[float]:
        """One finite score an item, in order; equal inputs of one call get the very same one."""
        ...
