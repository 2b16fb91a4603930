"""Answers to training queries, of several kinds, from which pairs are made.

    target         the user's own
    own            written with the user's records
    zero_shot      written with none
    swapped        written with the records of another user, drawn at random
    swapped_near   written with those of a near user: one who asked what is most like this query, by BM25
    neighbour      that near user's own answer to that query
    best, worst    of several drawn with the user's records, those that are more like the target, and those less; the
                   first of the best is the most like it, and stands against the least, the second against the second

One function reads another user's records, `swapped_profile`; both users' ids are kept with what comes of it.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from statistics import mean
from typing import NamedTuple, TypeVar

from prlm_cli.core.errors import DataError
from prlm_cli.core.records import Generation, ProfileDocument, Query, Retrieved, with_records
from prlm_cli.core.reporting import Reporter
from prlm_cli.core.settings import Config
from prlm_cli.core.store import Store
from prlm_cli.metrics.rouge import rouge
from prlm_cli.pipeline.best_of_n import sample
from prlm_cli.pipeline.completion_cache import CompletionCache
from prlm_cli.pipeline.generate import generate
from prlm_cli.pipeline.held_out import heldout_users
from prlm_cli.pipeline.neighbours import Neighbours
from prlm_cli.pipeline.policies import Policy
from prlm_cli.pipeline.stand_ins import StandIns

Asked = TypeVar("Asked", bound=Query)

OF_ANOTHER = frozenset({"swapped", "swapped_near", "neighbour"})
"""The kinds of answers that need another user."""

_OF_THE_NEAR = frozenset({"swapped_near", "neighbour"})
_DRAWN = frozenset({"best", "worst"})


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
    """A query, what a policy is to be shown for its answers of each kind, and the answers that need no policy.

    `ranked` says whether several answers are to be drawn, of which the best and the worst are wanted.
    """

    query: Retrieved
    shown: dict[str, Retrieved] = field(default_factory=dict)
    known: dict[str, Answer] = field(default_factory=dict)
    ranked: bool = False


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
    stand_ins = _stand_ins(store, queries, kinds, config) if OF_ANOTHER & set(kinds) else None
    return [_candidates(query, kinds, stand_ins) for query in spread(usable, config.pairs.max_queries, config.seed)]


def write_answers(
    asked: Sequence[Candidates], policy: Policy, config: Config, reporter: Reporter, cache: CompletionCache | None
) -> Iterator[tuple[Retrieved, dict[str, list[Answer]]]]:
    """Each query with its answers by kind; the policy writes greedily, all in one go, but for those to be ranked.

    Args:
        asked: From `candidates`.
        policy: Who writes.
        config: Decoding.
        reporter: Told about progress.
        cache: Of the policy's completions.
    """
    shown = [query for each in asked for query in each.shown.values()]
    ranked = [each.query for each in asked if each.ranked]
    drawn = iter(
        sample(
            ranked,
            policy,
            config,
            config.pairs.samples,
            temperature=config.pairs.temperature,
            reporter=reporter,
            cache=cache,
        )
    )
    # At once: a batch of several kinds costs hardly more decoding steps than a batch of one.
    written = generate(shown, policy, config, temperature=0.0, reporter=reporter, stage="pairs: answers", cache=cache)
    for each in asked:
        answers = {kind: [answer] for kind, answer in each.known.items()}
        if each.ranked:
            answers |= _best_and_worst(next(drawn), each.query.target or "")
        for kind, generation in zip(each.shown, islice(written, len(each.shown)), strict=True):
            other = generation.profile_user_id
            answers[kind] = [Answer(generation.answer, other, generation.profile if other else ())]
        yield each.query, answers


def _best_and_worst(drawn: Sequence[Generation], target: str) -> dict[str, list[Answer]]:
    """Ranked by the mean of ROUGE-1, 2 and L; the middle of an odd number is neither."""
    answers = [generation.answer for generation in drawn if generation.answer]
    overlaps = {answer: mean(rouge(answer, target)) for answer in answers}
    ranked = sorted(answers, key=lambda answer: -overlaps[answer])
    if len(ranked) < 2:
        return {kind: [Answer(None)] for kind in _DRAWN}
    best = ranked[: len(ranked) // 2]
    # One that is as good as the other is no contrast: the other stands there in its place.
    worst = [b if overlaps[a] == overlaps[b] else a for a, b in zip(reversed(ranked), best, strict=False)]
    return {kind: [Answer(text) for text in texts] for kind, texts in (("best", best), ("worst", worst))}


def spread(queries: Sequence[Asked], count: int, seed: int) -> list[Asked]:
    """A seeded sample of the queries that takes one of each user before a second of any."""
    shuffled = random.Random(seed).sample(list(queries), len(queries))
    taken: Counter[str] = Counter()
    rounds = []
    for position, query in enumerate(shuffled):
        rounds.append((taken[query.user_id], position, query))
        taken[query.user_id] += 1
    return [query for _, _, query in sorted(rounds, key=lambda item: item[:2])[:count]]


def _stand_ins(store: Store, queries: Sequence[Retrieved], kinds: Collection[str], config: Config) -> StandIns:
    """Other users of the same side of the reward model's split: no training pair shows a held-out user's records."""
    users = {query.user_id for query in queries}
    if len(users) < 2:
        raise DataError("swapped pairs need two users", hint="index more users, or --set pairs.swapped=false")
    held_out = heldout_users(users, config.reward.heldout_share)
    neighbours = Neighbours(queries, store.tokenizer) if _OF_THE_NEAR & set(kinds) else None
    return StandIns(store, [held_out, users - held_out], config, neighbours)


def _candidates(query: Retrieved, kinds: Collection[str], stand_ins: StandIns | None) -> Candidates:
    found = Candidates(query, ranked=bool(query.target and _DRAWN & set(kinds)))
    if "target" in kinds:
        found.known["target"] = Answer(query.target)
    if "own" in kinds:
        found.shown["own"] = query
    if "zero_shot" in kinds:
        found.shown["zero_shot"] = with_records(query, [])
    if stand_ins and "swapped" in kinds and (swapped := stand_ins.at_random(query)):
        found.shown["swapped"] = swapped
    if stand_ins and (near := stand_ins.near(query)):
        swapped, neighbour = near
        if "swapped_near" in kinds:
            found.shown["swapped_near"] = swapped
        if "neighbour" in kinds:
            found.known["neighbour"] = Answer(neighbour.target, neighbour.user_id, swapped.profile, neighbour.query_id)
    return found
