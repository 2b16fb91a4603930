"""What a reward model is worth where it chooses: best of n, and how far that can be pushed.

Of n completions of one query the reward model takes one. Beside it stand a random choice and the oracle, which sees the
target. With more to choose from, the reward always rises; where ROUGE against the target turns, the model is being
exploited. Source: Gao et al., Scaling Laws for Reward Model Overoptimization (arXiv 2210.10760); here the true score is
ROUGE-L against what the user really wrote, and n stops at the number of samples.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from itertools import islice
from typing import Any

import msgspec

from prlm_cli.core.records import Generation, PreferencePair, Retrieved
from prlm_cli.core.reporting import Reporter
from prlm_cli.core.settings import Config
from prlm_cli.metrics.best_of import doublings, expected_best
from prlm_cli.metrics.calibration import sigmoid
from prlm_cli.metrics.intervals import Interval, paired_interval
from prlm_cli.pipeline.completion_cache import CompletionCache
from prlm_cli.pipeline.generate import generate
from prlm_cli.pipeline.pair_scores import Part
from prlm_cli.pipeline.policies import Policy

_NOTHING = 1e-12  # sums of the same numbers in another order differ by less


class Candidate(msgspec.Struct, frozen=True):
    """One sampled completion: the reward model's score, -inf where no answer can be read, and its target ROUGE-L."""

    score: float
    rouge_l: float


class BestOf(msgspec.Struct, frozen=True):
    """What the best of n is worth, in the mean over the queries.

    `reward` is sigmoid(score / T) of the chosen one, 0 where no answer can be read; `rouge_l` is its target ROUGE-L,
    `random` and `oracle` those of the other choosers. `gain` is the paired difference to a random choice, and
    `oracle_share` the part of the oracle's gain that this is; None where the oracle gains nothing.
    """

    n: int
    reward: float
    rouge_l: float
    random: float
    oracle: float
    gain: Interval
    oracle_share: float | None


class BestOfN(msgspec.Struct, frozen=True):
    """The over-optimisation curve: the best of 1, 2, 4, ... up to all `samples` of each query.

    `peak` is the n whose choices have the highest target ROUGE-L; from there on, reward and ROUGE part. `lost` is the
    paired difference between it and the largest n; at least 0.
    """

    samples: int
    queries: int
    users: int
    curve: list[BestOf]
    peak: int
    lost: Interval


def sample(
    queries: Sequence[Retrieved],
    policy: Policy,
    config: Config,
    n: int,
    *,
    temperature: float,
    reporter: Reporter,
    cache: CompletionCache | None = None,
) -> list[list[Generation]]:
    """The `n` sampled completions of each query, in the order of the queries.

    A draw does not depend on the others: more of them begin with the same.

    Args:
        queries: With their records.
        policy: Who writes.
        config: Decoding and seed.
        n: Draws a query.
        temperature: Of the sampling, above 0.
        reporter: Told about progress.
        cache: Of the policy's completions.
    """
    options: dict[str, Any] = {"temperature": temperature, "reporter": reporter, "stage": "samples", "cache": cache}
    found = generate(queries, policy, config, draws=n, **options)
    return [list(islice(found, n)) for _ in queries]


def with_samples(
    pairs: Sequence[PreferencePair],
    policy: Policy | None,
    config: Config,
    reporter: Reporter,
    cache: CompletionCache | None = None,
    queries: Sequence[Retrieved] = (),
) -> Part:
    """The pairs, and what the policy draws for some of their queries, as the settings of the diagnostics say.

    Args:
        pairs: Of one part.
        policy: Who writes; without one, or where nobody knows a target, nothing is drawn.
        config: The number of draws and queries, temperature, decoding, seed.
        reporter: Told about progress.
        cache: Of the policy's completions.
        queries: More queries of the part, with their records: pairs are made of a few.
    """
    asked = _queries(pairs, queries) if policy and config.diagnostics.samples else []
    if not policy or not asked:
        return Part(pairs)
    settings = config.diagnostics
    chosen = random.Random(config.seed).sample(asked, min(settings.queries, len(asked)))
    drawn = sample(
        chosen,
        policy,
        config,
        settings.samples,
        temperature=settings.temperature,
        reporter=reporter,
        cache=cache,
    )
    return Part(pairs, drawn)


def _queries(pairs: Sequence[PreferencePair], more: Sequence[Retrieved]) -> list[Retrieved]:
    """Their queries with a target, each once, in the order of their ids."""
    found = {(query.user_id, query.query_id): query for query in more if query.target and query.profile}
    cards = {key: query.card for key, query in found.items()}
    found |= {
        (pair.user_id, pair.query_id): Retrieved(
            query_id=pair.query_id,
            user_id=pair.user_id,
            text=pair.text,
            target=pair.target,
            profile=pair.profile,
            retriever="",
            card=cards.get((pair.user_id, pair.query_id), ""),
        )
        for pair in pairs
        if pair.target
    }
    return [found[key] for key in sorted(found)]


def best_of_n(
    candidates: Sequence[Sequence[Candidate]],
    user_ids: Sequence[str],
    temperature: float,
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> BestOfN:
    """The curve over queries with equally many candidates each; exact over all ways to draw n of them.

    Args:
        candidates: Those of each query.
        user_ids: Whose query each is.
        temperature: T of the reward.
        resamples: Of the users, for the intervals.
        seed: Of these.
    """
    count = len(candidates[0])
    mean_of = _Means(candidates, temperature)
    chance = mean_of.chosen(1)
    curve, chosen = [], {}
    for n in doublings(count):
        chosen[n] = mean_of.chosen(n)
        rouge_l, random, oracle = map(_mean, (chosen[n], chance, mean_of.oracle(n)))
        curve.append(
            BestOf(
                n=n,
                reward=_mean(mean_of.reward(n)),
                rouge_l=rouge_l,
                random=random,
                oracle=oracle,
                gain=paired_interval(chosen[n], chance, user_ids, resamples=resamples, seed=seed),
                oracle_share=(rouge_l - random) / (oracle - random) if oracle - random > _NOTHING else None,
            )
        )
    highest = max(point.rouge_l for point in curve)
    peak = next(point.n for point in curve if point.rouge_l > highest - _NOTHING)
    lost = paired_interval(chosen[peak], chosen[count], user_ids, resamples=resamples, seed=seed)
    return BestOfN(count, len(candidates), len(set(user_ids)), curve, peak, lost)


class _Means:
    """Each query's expected figures of the best of n."""

    def __init__(self, candidates: Sequence[Sequence[Candidate]], temperature: float) -> None:
        self._scores = [[c.score for c in of] for of in candidates]
        self._golds = [[c.rouge_l for c in of] for of in candidates]
        self._rewards = [[0.0 if math.isinf(s) else sigmoid(s / temperature) for s in of] for of in self._scores]

    def chosen(self, n: int) -> list[float]:
        return [expected_best(gold, scores, n) for gold, scores in zip(self._golds, self._scores, strict=True)]

    def reward(self, n: int) -> list[float]:
        return [expected_best(reward, scores, n) for reward, scores in zip(self._rewards, self._scores, strict=True)]

    def oracle(self, n: int) -> list[float]:
        return [expected_best(gold, gold, n) for gold in self._golds]


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
