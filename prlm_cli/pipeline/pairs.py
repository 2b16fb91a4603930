"""Contrastive pairs from real generations: what the reward model learns from.

For each training query the same policy answers with the user's records (own), with none (zero-shot), and with another
user's (swapped). Pairs of one query share its text and the user's own records:

    zero_shot   own > zero-shot       PrLM's pair (arXiv 2508.07342)
    swapped     own > swapped         what only fits another user
    target      target > swapped      the same with the user's real answer
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence

from prlm_cli.core.errors import DataError
from prlm_cli.core.records import Generation, PreferencePair, Retrieved, widen
from prlm_cli.core.reporting import Reporter
from prlm_cli.core.settings import Config
from prlm_cli.core.store import Store
from prlm_cli.pipeline.generate import generate
from prlm_cli.pipeline.policies import Policy
from prlm_cli.pipeline.retrieve import swapped_profile


def build_pairs(
    store: Store, queries: Sequence[Retrieved], policy: Policy, config: Config, reporter: Reporter
) -> list[PreferencePair]:
    """The pairs of a seeded sample of the queries, spread over the users; those with equal texts are dropped.

    Args:
        store: The index, for other users' records.
        queries: Training queries with their records; those without records are passed over.
        policy: Who answers, greedily.
        config: Which pairs, how many queries.
        reporter: Told about progress.

    Raises:
        DataError: If swapped pairs are asked for and there is one user only, or no pair has a contrast.
    """
    usable = [query for query in queries if query.profile]
    chosen = spread(usable, config.pairs.max_queries, config.seed)
    asked = [chosen, [widen(Retrieved, query, profile=[]) for query in chosen]]
    if config.pairs.swapped:
        users = sorted({query.user_id for query in queries})
        if len(users) < 2:
            raise DataError("swapped pairs need two users", hint="index more users, or --set pairs.swapped=false")
        asked.append([swapped_profile(store, query, users, config.retrieval, seed=config.seed) for query in chosen])
    # All at once: a batch of three kinds costs hardly more decoding steps than a batch of one.
    everything = [query for kind in asked for query in kind]
    answers = list(generate(everything, policy, config, temperature=0.0, reporter=reporter, stage="pairs: answers"))
    own, zero_shot, swapped = (answers[n * len(chosen) : (n + 1) * len(chosen)] for n in range(3))
    pairs = list(_pairs(chosen, own, zero_shot, swapped))
    if not pairs:
        raise DataError(
            "no pair has a contrast: all answers are equal", hint="use another pairs.policy or more queries"
        )
    return pairs


def spread(queries: Sequence[Retrieved], count: int, seed: int) -> list[Retrieved]:
    """A seeded sample of the queries that takes one of each user before a second of any."""
    shuffled = random.Random(seed).sample(list(queries), len(queries))
    taken: Counter[str] = Counter()
    rounds = []
    for position, query in enumerate(shuffled):
        rounds.append((taken[query.user_id], position, query))
        taken[query.user_id] += 1
    return [query for _, _, query in sorted(rounds, key=lambda item: item[:2])[:count]]


def _pairs(
    queries: Sequence[Retrieved], own: list[Generation], zero_shot: list[Generation], swapped: list[Generation]
) -> Iterator[PreferencePair]:
    for n, query in enumerate(queries):
        candidates: list[tuple[str, str | None, Generation]] = [("zero_shot", own[n].answer, zero_shot[n])]
        if swapped:
            candidates += [("swapped", own[n].answer, swapped[n]), ("target", query.target, swapped[n])]
        for kind, chosen, other in candidates:
            if chosen and other.answer and _normalised(chosen) != _normalised(other.answer):
                yield PreferencePair(
                    query_id=query.query_id,
                    user_id=query.user_id,
                    kind=kind,
                    text=query.text,
                    profile=query.profile,
                    chosen=chosen,
                    rejected=other.answer,
                    swapped_user_id=other.profile_user_id,
                    swapped_profile=other.profile if other.profile_user_id else [],
                )


def _normalised(answer: str) -> str:
    return " ".join(answer.lower().split())
