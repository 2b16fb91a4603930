"""Answers to training queries, of several kinds, from which pairs are made.

    target         the user's own
    own            written with the user's records
    zero_shot      written with none
    swapped        written with the records of another user, drawn at random
    swapped_near   written with those of a near user: one who asked what is most like this query, by BM25
    neighbour      that near user's own answer to that query

One function reads another user's records, `swapped_profile`; both users' ids are kept with what comes of it.
"""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from prlm_cli.core.errors import DataError
from prlm_cli.core.records import ProfileDocument, Retrieved, widen
from prlm_cli.core.reporting import Reporter
from prlm_cli.core.settings import Config
from prlm_cli.core.store import Store
from prlm_cli.pipeline.completion_cache import CompletionCache
from prlm_cli.pipeline.generate import generate
from prlm_cli.pipeline.held_out import heldout_users
from prlm_cli.pipeline.neighbours import Neighbours
from prlm_cli.pipeline.policies import Policy
from prlm_cli.pipeline.retrieve import swapped_profile

OF_ANOTHER = frozenset({"swapped", "swapped_near", "neighbour"})
"""The kinds of answers that need another user."""

_OF_THE_NEAR = frozenset({"swapped_near", "neighbour"})
_TRIED = 8  # near users: those behind them, where none of these has records that are old enough, are not near


class Answer(NamedTuple):
    """An answer; None where none can be read.

    `user_id` and `profile` are set where another user stands behind it, `query_id` where it is to that user's query.
    """

    text: str | None
    user_id: str | None = None
    profile: Sequence[ProfileDocument] = ()
    query_id: str | None = None


@dataclass(frozen=True)
class Candidates:
    """A query, what a policy is to be shown for its answers of each kind, and the answers that need no policy."""

    query: Retrieved
    shown: dict[str, Retrieved] = field(default_factory=dict)
    known: dict[str, Answer] = field(default_factory=dict)


def candidates(store: Store, queries: Sequence[Retrieved], kinds: Collection[str], config: Config) -> list[Candidates]:
    """What answers of some kinds are to be written from, for a seeded sample of the queries, spread over the users.

    A kind is missing from a query for which nobody stands in: no user is near, or nobody had a record by its date.

    Args:
        store: The index, for other users' records.
        queries: Training queries with their records; those without records are not sampled.
        kinds: Of answers.
        config: How many queries, how records are ranked, and the seed.

    Raises:
        DataError: If no query has records, or another user is needed and there is none.
    """
    usable = [query for query in queries if query.profile]
    if not usable:
        raise DataError(
            "no training query has records of its user", hint="index documents that are older than the queries"
        )
    stand_ins = _StandIns(store, queries, kinds, config) if OF_ANOTHER & set(kinds) else None
    return [_candidates(query, kinds, stand_ins) for query in spread(usable, config.pairs.max_queries, config.seed)]


def write_answers(
    asked: Sequence[Candidates], policy: Policy, config: Config, reporter: Reporter, cache: CompletionCache | None
) -> Iterator[tuple[Retrieved, dict[str, Answer]]]:
    """Each query with its answers by kind; the policy writes greedily, all in one go.

    Args:
        asked: From `candidates`.
        policy: Who writes.
        config: Decoding.
        reporter: Told about progress.
        cache: Of the policy's completions.
    """
    shown = [query for each in asked for query in each.shown.values()]
    # At once: a batch of several kinds costs hardly more decoding steps than a batch of one.
    written = generate(shown, policy, config, temperature=0.0, reporter=reporter, stage="pairs: answers", cache=cache)
    for each in asked:
        answers = dict(each.known)
        for kind, generation in zip(each.shown, islice(written, len(each.shown)), strict=True):
            other = generation.profile_user_id
            answers[kind] = Answer(generation.answer, other, generation.profile if other else ())
        yield each.query, answers


def spread(queries: Sequence[Retrieved], count: int, seed: int) -> list[Retrieved]:
    """A seeded sample of the queries that takes one of each user before a second of any."""
    shuffled = random.Random(seed).sample(list(queries), len(queries))
    taken: Counter[str] = Counter()
    rounds = []
    for position, query in enumerate(shuffled):
        rounds.append((taken[query.user_id], position, query))
        taken[query.user_id] += 1
    return [query for _, _, query in sorted(rounds, key=lambda item: item[:2])[:count]]


class _StandIns:
    """Other users with records for a query, of the same side of the reward model's split.

    So no pair that is trained on shows a held-out user's records. A side of one user has nobody: there, anybody may.
    """

    def __init__(self, store: Store, queries: Sequence[Retrieved], kinds: Collection[str], config: Config) -> None:
        self._store = store
        self._config = config
        users = {query.user_id for query in queries}
        if len(users) < 2:
            raise DataError("swapped pairs need two users", hint="index more users, or --set pairs.swapped=false")
        held_out = heldout_users(users, config.reward.heldout_share)
        sides = [side if len(side) > 1 else users for side in (held_out, users - held_out)]
        self._side_of = {user: sides[user not in held_out] for user in users}
        self._neighbours = Neighbours(queries, store.tokenizer) if _OF_THE_NEAR & set(kinds) else None

    def at_random(self, query: Retrieved) -> Retrieved | None:
        """The query with the records of a user drawn at random; None if nobody has any."""
        return self._swapped(query, self._side_of[query.user_id])

    def near(self, query: Retrieved) -> tuple[Retrieved, Retrieved] | None:
        """The query with the records of the nearest user who has any, and the query that makes that user near."""
        if self._neighbours:
            side = self._side_of[query.user_id]
            neighbours = (near for near in self._neighbours.of(query) if near.user_id in side)
            for neighbour in islice(neighbours, _TRIED):
                if swapped := self._swapped(query, [neighbour.user_id]):
                    return swapped, neighbour
        return None

    def _swapped(self, query: Retrieved, user_ids: Collection[str]) -> Retrieved | None:
        with contextlib.suppress(DataError):  # nobody among them has a record that is old enough
            return swapped_profile(self._store, query, user_ids, self._config.retrieval, seed=self._config.seed)
        return None


def _candidates(query: Retrieved, kinds: Collection[str], stand_ins: _StandIns | None) -> Candidates:
    found = Candidates(query)
    if "target" in kinds:
        found.known["target"] = Answer(query.target)
    if "own" in kinds:
        found.shown["own"] = query
    if "zero_shot" in kinds:
        found.shown["zero_shot"] = widen(Retrieved, query, profile=[])
    if stand_ins and "swapped" in kinds and (swapped := stand_ins.at_random(query)):
        found.shown["swapped"] = swapped
    if stand_ins and (near := stand_ins.near(query)):
        swapped, neighbour = near
        if "swapped_near" in kinds:
            found.shown["swapped_near"] = swapped
        if "neighbour" in kinds:
            found.known["neighbour"] = Answer(neighbour.target, neighbour.user_id, swapped.profile, neighbour.query_id)
    return found
