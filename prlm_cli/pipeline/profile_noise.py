"""Noisy profiles in policy training: retrieval on a bad day, so that the policy learns to do with what it gets.

Source: PrLM (arXiv 2508.07342) claims that its policies bear worse retrieval; here they are trained for it. The noise
is made of the user's own records alone.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from msgspec import structs

from prlm_cli.core.records import ProfileDocument, Retrieved
from prlm_cli.core.settings import RetrievalSettings
from prlm_cli.core.store import Store
from prlm_cli.pipeline.search import own_search
from prlm_cli.retrievers.hit import Hit

MAX_OTHERS = 32
"""Irrelevant records that are held for each query."""

Others = Mapping[tuple[str, str], Sequence[ProfileDocument]]
"""By user and query: records that the query may see, and that were not retrieved for it."""


def noisy(
    records: Sequence[ProfileDocument], others: Sequence[ProfileDocument], rng: random.Random
) -> list[ProfileDocument]:
    """The first few records, any number of them; any number of those replaced by others; in random order.

    Args:
        records: Those retrieved, best first.
        others: Irrelevant ones.
        rng: Draws the numbers, what is replaced by what, and the order.
    """
    kept = list(records[: rng.randint(0, len(records))])
    replaced = rng.sample(range(len(kept)), min(rng.randint(0, len(kept)), len(others)))
    for place, other in zip(replaced, rng.sample(others, len(replaced)), strict=True):
        kept[place] = other
    rng.shuffle(kept)
    return [structs.replace(record, rank=rank) for rank, record in enumerate(kept, start=1)]


@dataclass(frozen=True)
class ProfileNoise:
    """What a query is shown each time that training comes to it.

    Args:
        share: How often it is shown a noisy profile, in [0, 1].
        others: Irrelevant records of each query.
        seed: With the query's id and the number of the time it decides all, so a resumed run sees the same.
    """

    share: float
    others: Others
    seed: int

    def __call__(self, query: Retrieved, time: int) -> Retrieved:
        """The query as it is shown the `time`-th time, from 0; the same object where there is no noise."""
        rng = random.Random(f"noise:{self.seed}:{query.user_id}:{query.query_id}:{time}")
        if rng.random() >= self.share:
            return query
        others = self.others[query.user_id, query.query_id]
        return structs.replace(query, profile=noisy(query.profile, others, rng))


def read_others(store: Store, queries: Sequence[Retrieved], settings: RetrievalSettings, *, seed: int) -> Others:
    """For each query at most `MAX_OTHERS` records of its own user that it may see and did not get, drawn at random.

    Args:
        store: The index.
        queries: With their records.
        settings: Which documents they may see.
        seed: Of the draw, together with the query's id.
    """
    found: dict[tuple[str, str], list[ProfileDocument]] = {}
    by_user: dict[str, list[Retrieved]] = {}
    for query in queries:
        by_user.setdefault(query.user_id, []).append(query)
    with own_search(store, settings) as search:
        for user_id, own in by_user.items():
            with store.snapshot():
                history = store.history(user_id)
                for query in own:
                    shown = {record.doc_id for record in query.profile if record.corpus != "shared"}
                    free = [n for n in search.seen(query, history) if history.doc_ids[n] not in shown]
                    rng = random.Random(f"others:{seed}:{user_id}:{query.query_id}")
                    drawn = rng.sample(free, min(MAX_OTHERS, len(free)))
                    hits = [Hit(history.entries[n].rid, 0.0) for n in drawn]
                    found[user_id, query.query_id] = search.read(user_id, hits)
    return found
