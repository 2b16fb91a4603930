"""The order in which a training takes its rows: written down before it starts, so a resumed run sees the same."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from itertools import chain

from prlm_cli.core.errors import SettingsError

_MOST_BATCHES = 50  # sorted at a time, as in the library's sampler, whose order a resumed run would not see again


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


def met_before(query_ids: Sequence[str], taken: int, length: int, seed: int) -> int:
    """How many of the `length` ids that follow on the first `taken` of an order are among those."""
    order = query_order(query_ids, taken + length, seed)
    before = set(order[:taken])
    return sum(query_id in before for query_id in order[taken:])


def passes(order: Sequence[str]) -> list[tuple[str, int]]:
    """Each id of an order with how often it came before."""
    met: Counter[str] = Counter()
    found = []
    for query_id in order:
        found.append((query_id, met[query_id]))
        met[query_id] += 1
    return found


def length_order(lengths: Sequence[int], batch_size: int, steps: int, seed: int) -> list[int]:
    """The rows of all steps: endless passes, in which rows of like length share a step and so need less padding.

    The steps come in no order of length: else the learning rate, which falls, would be that of the length.

    Args:
        lengths: Of the rows, in tokens.
        batch_size: Rows a step.
        steps: How many.
        seed: Of the passes.
    """
    names = [f"{row:09}" for row in range(len(lengths))]
    order = [int(name) for name in query_order(names, steps * batch_size, seed)]
    stretch = batch_size * max(1, min(_MOST_BATCHES, len(lengths) // (4 * batch_size)))
    shuffled: list[int] = []
    for start in range(0, len(order), stretch):
        rows = sorted(order[start : start + stretch], key=lambda row: -lengths[row])
        alike = [rows[n : n + batch_size] for n in range(0, len(rows), batch_size)]
        random.Random(f"{seed}:{start}").shuffle(alike)
        shuffled += chain.from_iterable(alike)
    return shuffled
