"""Controls: whether a policy's gain is personal, and whether its reasoning pays.

    own              the user's own records: the reference
    no_profile       none
    shuffled         the user's own, in a seeded random order
    swapped          those of another user, drawn at random
    swapped_near     those of a near user: one who asked what is most like this query, by BM25
    no_reasoning     the user's own, with an empty thought given instead of the policy's
    other_reasoning  the user's own, with the thought that the policy had about another query, the same user's if any

For a policy that answers without reasoning the last two are what `own` is, and change nothing.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from msgspec import structs

from prlm_cli.core.records import Generation, Retrieved, with_records
from prlm_cli.core.reporting import Reporter
from prlm_cli.core.settings import Config
from prlm_cli.core.store import Store
from prlm_cli.metrics.intervals import Interval
from prlm_cli.pipeline.attacks import REFERENCE, shuffled
from prlm_cli.pipeline.completion_cache import CompletionCache
from prlm_cli.pipeline.conditions import Condition, Conditions, answered, compared
from prlm_cli.pipeline.neighbours import Neighbours
from prlm_cli.pipeline.policies import Policy
from prlm_cli.pipeline.stand_ins import StandIns

GAINS = {
    "personalization gain": "swapped",
    "personalization gain, near users": "swapped_near",
    "gain over no profile": "no_profile",
    "reasoning gain": "no_reasoning",
    "gain over another query's reasoning": "other_reasoning",
}
"""What each gain is over: `own` minus that condition."""


def run_controls(
    store: Store,
    queries: Sequence[Retrieved],
    policy: Policy,
    config: Config,
    *,
    reporter: Reporter | None = None,
    cache: CompletionCache | None = None,
) -> Conditions:
    """The policy's answers under all controls, compared with those for the users' own records.

    Args:
        store: The index, for the other users' records.
        queries: With their own users' records; the users among them stand in for each other.
        policy: Who writes.
        config: Retrieval, decoding, metrics, resamples and the seed.
        reporter: Told about progress.
        cache: Of the policy's completions.

    Raises:
        DataError: If the queries are of one user alone.
        SettingsError: If a metric is unknown.
    """
    shown = profile_controls(store, queries, config)
    found = [answered(c, policy, config, reporter=reporter, cache=cache) for c in shown if c.queries]
    thought = reasoning_controls(found[0].generations, queries, config.seed, reasons=policy.builder.reasoning)
    found += [answered(c, policy, config, reporter=reporter, cache=cache) for c in thought if c.queries]
    return compared(found, REFERENCE, config)


def gains(conditions: Conditions, metric: str) -> dict[str, Interval]:
    """What the users' own records, and the policy's own reasoning, are worth on a metric; see `GAINS`."""
    over = {gain: conditions[name] for gain, name in GAINS.items() if name in conditions}
    found = {gain: result.gain_of_reference(metric) for gain, result in over.items()}
    return {gain: interval for gain, interval in found.items() if interval}


def profile_controls(store: Store, queries: Sequence[Retrieved], config: Config) -> list[Condition]:
    """The conditions that change the records; a swapped one lacks those queries for which nobody stands in."""
    users = {query.user_id for query in queries}
    stand_ins = StandIns(store, [users], config, Neighbours(queries, store.tokenizer))
    return [
        Condition(REFERENCE, queries),
        Condition("no_profile", [with_records(query, []) for query in queries]),
        Condition("shuffled", [shuffled(query, config.seed) for query in queries]),
        Condition("swapped", [other for query in queries if (other := stand_ins.at_random(query))]),
        Condition("swapped_near", [found[0] for query in queries if (found := stand_ins.near(query))]),
    ]


def reasoning_controls(
    own: Sequence[Generation], queries: Sequence[Retrieved], seed: int, *, reasons: bool
) -> list[Condition]:
    """The conditions that give the policy a thought.

    Args:
        own: The policy's generations for the queries.
        queries: With their records.
        seed: Of the choice of other queries.
        reasons: Whether the policy reasons at all.
    """
    if not reasons:
        return [Condition("no_reasoning", queries), Condition("other_reasoning", queries)]
    given, thoughts = [], {}
    for query, other in zip(queries, _others(own, seed), strict=True):
        if other is not None:
            # Of another user: that one's id is kept with what comes of it, as with records.
            owner = other.user_id if other.user_id != query.user_id else None
            given.append(structs.replace(query, profile_user_id=owner))
            thoughts[query.query_id] = other.reasoning or ""
    empty = {query.query_id: "" for query in queries}
    return [
        Condition("no_reasoning", queries, thoughts=empty),
        Condition("other_reasoning", given, thoughts=thoughts),
    ]


def _others(own: Sequence[Generation], seed: int) -> Iterator[Generation | None]:
    """For each generation that of another query, of the same user if there is one; None where it is the only one."""
    by_user: dict[str, list[Generation]] = {}
    for generation in own:
        by_user.setdefault(generation.user_id, []).append(generation)
    for generation in own:
        near = [other for other in by_user[generation.user_id] if other is not generation]
        choices = near or [other for other in own if other is not generation]
        yield random.Random(f"thought:{seed}:{generation.query_id}").choice(choices) if choices else None
