"""No documents: the control without personalisation."""

from __future__ import annotations

from collections.abc import Sequence

from prlm_cli.core.records import Query
from prlm_cli.core.store import Entry
from prlm_cli.retrievers import Ranked


def none(query: Query, eligible: Sequence[Entry], *, seed: int = 0) -> list[Ranked]:
    """An empty profile."""
    return []
