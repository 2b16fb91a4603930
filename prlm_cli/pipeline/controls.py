"""Controls: whether a policy's gain is personal.

    own            the user's own records: the reference
    no_profile     none
    shuffled       the user's own, in a seeded random order
    swapped        those of another user, drawn at random
    swapped_near   those of a near user: one who asked what is most like this query, by BM25

The personalisation gain is own minus swapped: the difference of a swapped condition with its sign turned.
"""

from __future__ import annotations

from collections.abc import Sequence

from prlm_cli.core.records import Retrieved, widen
from prlm_cli.core.settings import Config
from prlm_cli.core.store import Store
from prlm_cli.pipeline.attacks import REFERENCE, shuffled
from prlm_cli.pipeline.candidates import StandIns
from prlm_cli.pipeline.conditions import Condition


def controls(store: Store, queries: Sequence[Retrieved], config: Config) -> list[Condition]:
    """The conditions, for the same queries; a swapped one lacks those for which nobody stands in.

    Args:
        store: The index, for the other users' records.
        queries: With their own users' records; the users among them stand in for each other.
        config: How records are ranked, and the seed.

    Raises:
        DataError: If the queries are of one user alone.
    """
    stand_ins = StandIns(store, queries, {"swapped", "swapped_near"}, config)
    near = [found[0] for query in queries if (found := stand_ins.near(query))]
    return [
        Condition(REFERENCE, queries),
        Condition("no_profile", [widen(Retrieved, query, profile=[]) for query in queries]),
        Condition("shuffled", [shuffled(query, config.seed) for query in queries]),
        Condition("swapped", [found for query in queries if (found := stand_ins.at_random(query))]),
        Condition("swapped_near", near),
    ]
