"""Documents in random order: the control that shows what ranking is worth."""

from __future__ import annotations

import random
from collections.abc import Sequence

from prlm_cli.core.records import Query
from prlm_cli.core.store import Entry
from prlm_cli.retrievers import Ranked


def shuffled(query: Query, eligible: Sequence[Entry], *, seed: int = 0) -> list[Ranked]:
    """Documents in an order that depends on the seed and the query alone, without replacement. All scores are 0."""
    order = sorted(eligible, key=lambda entry: entry.doc_id)
    random.Random(f"{seed}:{query.query_id}").shuffle(order)
    return [Ranked(entry, 0.0) for entry in order]
