"""The order in which a training takes its queries: written down before it starts, so a resumed run sees the same."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from prlm_cli.core.errors import SettingsError


def check_enough(queries: int, prompts_per_step: int) -> None:
    """Makes sure that there are queries for a step: TRL would drop what does not fill one, and end after no step.

    Raises:
        SettingsError: If there are not.
    """
    if queries < prompts_per_step:
        raise SettingsError(
            f"{queries} training queries, but a step takes {prompts_per_step}",
            hint="lower policy.prompts_per_step or index more queries",
        )


def query_order(query_ids: Sequence[str], length: int, seed: int) -> list[str]:
    """The first `length` ids of endless passes over all of them, each pass in an order of its own."""
    order: list[str] = []
    epoch = 0
    while len(order) < length:
        once = sorted(query_ids)
        random.Random(f"{seed}:{epoch}").shuffle(once)
        order += once
        epoch += 1
    return order[:length]


def passes(order: Sequence[str]) -> list[tuple[str, int]]:
    """Each id of an order with how often it came before."""
    met: Counter[str] = Counter()
    found = []
    for query_id in order:
        found.append((query_id, met[query_id]))
        met[query_id] += 1
    return found
