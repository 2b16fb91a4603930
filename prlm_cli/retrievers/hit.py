"""What a search found."""

from __future__ import annotations

from typing import NamedTuple


class Hit(NamedTuple):
    """One ranked document: its row in the user's store, or in that of the shared corpus, and its score."""

    rid: int
    score: float
    is_shared: bool = False
