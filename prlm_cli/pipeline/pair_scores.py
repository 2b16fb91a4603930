"""What a scorer says of contrastive pairs: margins in several views of the profile, hits, and interactions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from prlm_cli.core.errors import DataError
from prlm_cli.core.records import Generation, PreferencePair
from prlm_cli.metrics.intervals import Interval, share_interval
from prlm_cli.models.scorer import Item, Scorer


class Accuracy(msgspec.Struct, frozen=True):
    """The share of hits over all pairs and by kind, each with its interval over users."""

    overall: Interval
    kinds: dict[str, Interval]


class Part(NamedTuple):
    """Pairs that the model was not trained on, and the completions sampled for some of their queries."""

    pairs: Sequence[PreferencePair]
    samples: Sequence[Sequence[Generation]] = ()


class Margins(NamedTuple):
    """`s(chosen) - s(rejected)` of each pair in one view of the profile."""

    pairs: Sequence[PreferencePair]
    values: list[float]

    @property
    def hits(self) -> list[float]:
        """1 where the better answer scores higher, 0.5 where both score the same, as a coin would decide, else 0."""
        return [0.5 if margin == 0 else float(margin > 0) for margin in self.values]

    def accuracy(self) -> Accuracy | None:
        """The share of hits; None without pairs."""
        return accuracy(self.pairs, self.hits) if self.pairs else None


class PairScores(NamedTuple):
    """All that a scorer was asked about a part.

    `own` shows the user's records, `removed` none, `swapped` the other user's to the pairs that have them; `alone`
    shows not even the query. `answers` are the scores of chosen and rejected, by turns, with the own records, `samples`
    those of the sampled answers in order, without the unreadable ones.
    """

    own: Margins
    swapped: Margins
    removed: Margins
    alone: Margins
    answers: list[float]
    samples: list[float]

    @property
    def interactions(self) -> list[float]:
        """`s(D,y) - s(D,y') - s(D',y) + s(D',y')` of the pairs of `swapped`; exactly 0 where a profile is not seen."""
        own = (margin for pair, margin in zip(*self.own, strict=True) if is_crossed(pair))
        return [margin - other for margin, other in zip(own, self.swapped.values, strict=True)]


def is_crossed(pair: PreferencePair) -> bool:
    """Whether a pair has another user's records, and so an interaction."""
    return bool(pair.swapped_profile)


def score_pairs(scorer: Scorer, part: Part, *, ablate: bool = True) -> PairScores:
    """The scores of a part in every view, asked for in one call, so that equal inputs have equal scores.

    Args:
        scorer: Who is asked.
        part: Pairs and samples.
        ablate: Without, neither samples nor the views `removed` and `alone` are asked for, and these have no pairs.

    Raises:
        DataError: If a score is not a finite number.
    """
    crossed = [pair for pair in part.pairs if is_crossed(pair)]
    whole = part.pairs if ablate else []
    views: list[tuple[Sequence[PreferencePair], list[Item]]] = [
        (part.pairs, _items((pair, pair.text, pair.profile) for pair in part.pairs)),
        (crossed, _items((pair, pair.text, pair.swapped_profile) for pair in crossed)),
        (whole, _items((pair, pair.text, []) for pair in whole)),
        (whole, _items((pair, "", []) for pair in whole)),
    ]
    sampled = (generation for group in part.samples for generation in group) if ablate else ()
    samples = [Item(g.text, g.profile, g.answer) for g in sampled if g.answer is not None]
    scores = scorer.scores([*(item for _, items in views for item in items), *samples])
    if not all(map(math.isfinite, scores)):
        raise DataError("the reward model gives scores that are no finite numbers", hint="train it anew")
    stream = iter(scores)
    answers = [[next(stream) for _ in items] for _, items in views]
    margins = [Margins(pairs, _differences(of)) for (pairs, _), of in zip(views, answers, strict=True)]
    own, swapped, removed, alone = margins
    return PairScores(own, swapped, removed, alone, answers[0], list(stream))


def accuracy(pairs: Sequence[PreferencePair], hits: Sequence[float]) -> Accuracy:
    """The share of hits of one pair or more, and that of each kind."""
    rows: dict[str, list[tuple[float, str]]] = {}
    for pair, hit in zip(pairs, hits, strict=True):
        rows.setdefault(pair.kind, []).append((hit, pair.user_id))
    kinds = {kind: share_interval(*zip(*rows[kind], strict=True)) for kind in sorted(rows)}
    return Accuracy(share_interval(hits, [pair.user_id for pair in pairs]), kinds)


def _items(shown: Iterable[tuple[PreferencePair, str, Any]]) -> list[Item]:
    return [Item(text, profile, answer) for pair, text, profile in shown for answer in (pair.chosen, pair.rejected)]


def _differences(scores: list[float]) -> list[float]:
    return [chosen - rejected for chosen, rejected in zip(scores[::2], scores[1::2], strict=True)]
