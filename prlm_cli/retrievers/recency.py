"""The newest documents first."""

from __future__ import annotations

from collections.abc import Sequence

from prlm_cli.core.records import Query
from prlm_cli.core.store import Entry
from prlm_cli.retrievers import Ranked


def recency(query: Query, eligible: Sequence[Entry], *, seed: int = 0) -> list[Ranked]:
    """Documents by date, newest first; without dates the last that came in first. The score is 1/rank."""
    newest = sorted(eligible, key=lambda entry: (entry.until is not None, entry.until or 0, entry.rid), reverse=True)
    return [Ranked(entry, 1 / rank) for rank, entry in enumerate(newest, start=1)]
