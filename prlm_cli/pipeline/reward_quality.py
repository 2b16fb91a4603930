"""Does a reward model measure how an answer fits its user? The diagnostics, the verdict and the gate.

Judged on pairs that it was not trained on: those of held-out users, and the held-out queries of the others. Beside it
stand rules that need no training, and, where there is one, its twin that does not see the profile.

1. A pair is a hit if its better answer scores higher; equal scores count half.
2. The *interaction* of a pair with another user's records D' is `s(D,y) - s(D,y') - s(D',y) + s(D',y')` (method
   reference 3.1, c). What D says of the topic and how good y is cancel in it; only their fit is left. It is a hit if it
   is positive: 0, what a model that does not see the profile has exactly, is none.
3. The gate is open if the interaction is a hit for more than half of the held-out users' pairs, by the lower end of its
   95 % interval. Where no pair has another user's records there is nothing to test it on, and the gate stays closed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from prlm_cli.core.errors import DataError
from prlm_cli.metrics.calibration import Calibration, calibration
from prlm_cli.metrics.correlation import kendall, spearman
from prlm_cli.metrics.intervals import Interval, mean_interval, paired_interval, share_interval
from prlm_cli.metrics.rouge import rouge
from prlm_cli.models.echo import EchoRule
from prlm_cli.models.scorer import Item, Scorer
from prlm_cli.pipeline.best_of_n import BestOfN, Candidate, best_of_n
from prlm_cli.pipeline.pair_scores import Accuracy, PairScores, Part, accuracy, is_crossed, score_pairs

HEADLINE = "own>swapped"
ECHO, SHORTER, LONGER, BLIND = "echo", "shorter", "longer", "blind"
_MIN_CANDIDATES = 3
_SAME_LENGTH = 0.1  # of the longer answer; one word is always allowed


class Judged(msgspec.Struct, frozen=True):
    """How one scorer does: its accuracy, that of its interaction, and the largest |interaction| in logits.

    The last two are None where no pair has another user's records.
    """

    accuracy: Accuracy
    interaction: Accuracy | None
    max_abs_interaction: float | None


class Ablation(msgspec.Struct, frozen=True):
    """The accuracy with the profile removed, with the pair's other user's, and of the answer without its query.

    Without the profile, what measures fit with the user falls to chance on own>swapped, and with the other user's below
    it. `swapped` is None where no pair has another user's records.
    """

    removed: Accuracy
    swapped: Accuracy | None
    answer_alone: Accuracy


class LengthBias(msgspec.Struct, frozen=True):
    """What the score owes to the answer's length, in words.

    `score` is Spearman's correlation of score and length, `margin` that of a pair's margin and difference in length;
    None where either does not vary. `matched` is the accuracy on pairs whose lengths differ by one word or a tenth at
    most, and `gap` how far it lies above that on all. Matched pairs may be of harder kinds, so `gap_within_kinds` holds
    each against the accuracy of its own kind. The three are None where no pair is matched.
    """

    score: float | None
    margin: float | None
    matched: Interval | None
    gap: float | None
    gap_within_kinds: float | None


class WithinQuery(msgspec.Struct, frozen=True):
    """The mean correlation of score and target ROUGE-L over queries with at least three different answers.

    The target itself is not among them. A scorer that gives all answers of a query the same score has 0 there.
    """

    spearman: Interval
    kendall: Interval


class PartQuality(msgspec.Struct, frozen=True, kw_only=True):
    """All figures on one part of the pairs; `controls` are the rules and the blind twin, by name.

    `above_echo` is the paired difference in accuracy between the model and the echo rule, on own>swapped pairs, or on
    all where there are none of these. `within_query` and `best_of_n` are None where there is nothing to take them from.
    """

    pairs: int
    users: int
    model: Judged
    controls: dict[str, Judged]
    above_echo: Interval
    ablation: Ablation
    length: LengthBias
    calibration: Calibration
    within_query: WithinQuery | None
    best_of_n: BestOfN | None


class PairScore(msgspec.Struct, frozen=True, kw_only=True):
    """What the model says of one pair: its margin, and its interaction where it has one, in logits."""

    query_id: str
    user_id: str
    part: str
    kind: str
    margin: float
    interaction: float | None = None


class RewardQuality(msgspec.Struct, frozen=True, kw_only=True):
    """The diagnostics. `users` is the part of the held-out users, `queries` that of the others' held-out queries."""

    verdict: str
    gate: str
    temperature: float
    users: PartQuality | None
    queries: PartQuality | None
    scores: list[PairScore]

    @property
    def parts(self) -> dict[str, PartQuality]:
        """The parts that have pairs, by what they hold out."""
        named = {"held-out users": self.users, "held-out queries": self.queries}
        return {name: part for name, part in named.items() if part}

    def as_dict(self) -> dict[str, Any]:
        """The figures without the single pairs, as JSON has them: an unbounded end of an interval is null."""
        figures = {name: getattr(self, name) for name in self.__struct_fields__ if name != "scores"}
        found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(figures))
        return found

    def as_metrics(self) -> dict[str, Any]:
        """What a run keeps: the key figures on the held-out users, and all of them below `diagnostics`."""
        model = self.users and self.users.model
        return {
            "verdict": self.verdict,
            "gate": self.gate,
            "heldout_users": self.users.users if self.users else 0,
            "accuracy": msgspec.to_builtins(model.accuracy.kinds) if model else {},
            "interaction": msgspec.to_builtins(model.interaction.overall) if model and model.interaction else None,
            "diagnostics": self.as_dict(),
        }


class LengthRule:
    """A scorer that prefers the longer answer, in words; with `sign` -1 the shorter one."""

    def __init__(self, sign: int) -> None:
        self._sign = sign

    def scores(self, items: Sequence[Item]) -> list[float]:
        """One score an item."""
        return [float(self._sign * _length(item.answer)) for item in items]


def reward_quality(
    scorer: Scorer,
    *,
    users: Part,
    queries: Part,
    blind: Scorer | None = None,
    temperature: float | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> RewardQuality:
    """The diagnostics of a reward model, or of any other scorer.

    Args:
        scorer: The model.
        users: Of held-out users.
        queries: Held-out queries of users whose other queries it was trained on.
        blind: Its twin, trained on the same pairs without the profile.
        temperature: T in `sigmoid(s / T)`; None fits it, on the held-out queries where there are any, so that the
            calibration on the held-out users is of pairs that T was not fitted on.
        resamples: Of the users, for the intervals of means.
        seed: Of these.

    Raises:
        DataError: If there are no pairs, or a score is not a finite number.
    """
    from prlm_cli.models.reward_model import fit_temperature

    parts = {name: part for name, part in (("users", users), ("queries", queries)) if part.pairs}
    if not parts:
        raise DataError("no held-out pairs to judge a reward model on", hint="give pairs of more users")
    scored = {name: score_pairs(scorer, part) for name, part in parts.items()}
    if temperature is None:
        temperature = fit_temperature((scored.get("queries") or scored["users"]).own.values)
    rules: dict[str, Scorer] = {ECHO: EchoRule(), SHORTER: LengthRule(-1), LONGER: LengthRule(1)}
    controls = rules | ({BLIND: blind} if blind else {})
    found = {
        name: _part_quality(part, scored[name], controls, temperature, resamples, seed) for name, part in parts.items()
    }
    gate = _gate(found.get("users"))
    return RewardQuality(
        verdict=_verdict(found.get("users"), gate),
        gate=gate,
        temperature=temperature,
        users=found.get("users"),
        queries=found.get("queries"),
        scores=[record for name, scores in scored.items() for record in _records(name, scores)],
    )


def _part_quality(
    part: Part, scored: PairScores, controls: dict[str, Scorer], temperature: float, resamples: int, seed: int
) -> PartQuality:
    of_controls = {name: score_pairs(control, part, ablate=False) for name, control in controls.items()}
    removed, alone = scored.removed.accuracy(), scored.alone.accuracy()
    assert removed and alone  # a part has pairs
    candidates = _candidates(part, scored.samples)
    return PartQuality(
        pairs=len(part.pairs),
        users=len({pair.user_id for pair in part.pairs}),
        model=_judged(scored),
        controls={name: _judged(of) for name, of in of_controls.items()},
        above_echo=_above(scored, of_controls[ECHO], resamples, seed),
        ablation=Ablation(removed, scored.swapped.accuracy(), alone),
        length=_length_bias(part, scored),
        calibration=calibration(scored.own.values, temperature),
        within_query=_within_query(part, scored, candidates, resamples, seed),
        best_of_n=best_of_n(
            candidates, [group[0].user_id for group in part.samples], temperature, resamples=resamples, seed=seed
        )
        if candidates
        else None,
    )


def _judged(scored: PairScores) -> Judged:
    overall, deltas = scored.own.accuracy(), scored.interactions
    assert overall
    if not deltas:
        return Judged(overall, None, None)
    fits = accuracy(scored.swapped.pairs, [float(delta > 0) for delta in deltas])
    return Judged(overall, fits, max(map(abs, deltas)))


def _above(scored: PairScores, rule: PairScores, resamples: int, seed: int) -> Interval:
    rows = [
        (model, other, pair.user_id, pair.kind)
        for pair, model, other in zip(scored.own.pairs, scored.own.hits, rule.own.hits, strict=True)
    ]
    chosen = [row for row in rows if row[3] == HEADLINE] or rows
    model, other, user_ids, _ = zip(*chosen, strict=True)
    return paired_interval(model, other, user_ids, resamples=resamples, seed=seed)


def _length_bias(part: Part, scored: PairScores) -> LengthBias:
    lengths = [_length(answer) for pair in part.pairs for answer in (pair.chosen, pair.rejected)]
    pairs = list(zip(lengths[::2], lengths[1::2], strict=True))
    margin = spearman(scored.own.values, [chosen - rejected for chosen, rejected in pairs])
    # An answer that stands in several pairs is one answer.
    answers = {
        (pair.user_id, pair.query_id, answer): (score, length)
        for (pair, answer), score, length in zip(_answers(part), scored.answers, lengths, strict=True)
    }
    score = spearman(*zip(*answers.values(), strict=True))
    matched = [
        (hit, pair)
        for pair, hit, (chosen, rejected) in zip(part.pairs, scored.own.hits, pairs, strict=True)
        if abs(chosen - rejected) <= max(1, _SAME_LENGTH * max(chosen, rejected))
    ]
    if not matched:
        return LengthBias(score, margin, None, None, None)
    overall = scored.own.accuracy()
    assert overall
    share = share_interval([hit for hit, _ in matched], [pair.user_id for _, pair in matched])
    within = math.fsum(hit - overall.kinds[pair.kind].mean for hit, pair in matched) / len(matched)
    return LengthBias(score, margin, share, share.mean - overall.overall.mean, within)


def _candidates(part: Part, scores: Sequence[float]) -> list[list[Candidate]]:
    """The samples of each query with their scores; an answer that cannot be read is never the better one."""
    stream = iter(scores)
    return [
        [
            Candidate(-math.inf if g.answer is None else next(stream), rouge(g.answer, g.target or "").rouge_l)
            for g in group
        ]
        for group in part.samples
    ]


def _within_query(
    part: Part, scored: PairScores, candidates: Sequence[Sequence[Candidate]], resamples: int, seed: int
) -> WithinQuery | None:
    answers: dict[tuple[str, str], dict[str, Candidate]] = {}
    for (pair, answer), score in zip(_answers(part), scored.answers, strict=True):
        if pair.target and answer != pair.target:
            found = Candidate(score, rouge(answer, pair.target).rouge_l)
            answers.setdefault((pair.user_id, pair.query_id), {})[answer] = found
    for group, of in zip(part.samples, candidates, strict=True):
        for generation, candidate in zip(group, of, strict=True):
            if generation.answer is not None and generation.answer != generation.target:
                key = (generation.user_id, generation.query_id)
                answers.setdefault(key, {})[generation.answer] = candidate
    rows = []
    for (user_id, _), of_query in answers.items():
        scores, golds = ([getattr(c, name) for c in of_query.values()] for name in ("score", "rouge_l"))
        if len(of_query) >= _MIN_CANDIDATES and len(set(golds)) > 1:
            rows.append((user_id, spearman(scores, golds) or 0.0, kendall(scores, golds) or 0.0))
    if not rows:
        return None
    user_ids, rhos, taus = zip(*rows, strict=True)
    return WithinQuery(
        mean_interval(rhos, user_ids, resamples=resamples, seed=seed),
        mean_interval(taus, user_ids, resamples=resamples, seed=seed),
    )


def _answers(part: Part) -> Iterator[tuple[Any, str]]:
    """Chosen and rejected by turns, each with its pair."""
    return ((pair, answer) for pair in part.pairs for answer in (pair.chosen, pair.rejected))


def _length(answer: str) -> int:
    return len(answer.split())


def _gate(users: PartQuality | None) -> str:
    fits = users and users.model.interaction
    return "open" if fits and fits.overall.low > 0.5 else "closed"


def _verdict(users: PartQuality | None, gate: str) -> str:
    """One line in plain words, from the part of the held-out users."""
    if users is None:
        found = "not known: no pair is of a held-out user"
    elif users.model.interaction is None:
        found = "not known: no pair has another user's records"
    elif users.model.max_abs_interaction == 0:
        found = "does not tell one user's records from another's: its interaction is 0 for every pair"
    elif gate == "closed":
        found = f"does not measure fit with the user: interaction {_on(users.model.interaction.overall)}"
    else:
        kinds = users.model.accuracy.kinds
        share = kinds.get(HEADLINE, users.model.accuracy.overall)
        what = "own over swapped" if HEADLINE in kinds else "accuracy"
        found = f"measures fit with the user: {what} {_on(share)}; {_against_echo(users)}"
    return f"{found}; gate {gate}"


def _on(share: Interval) -> str:
    return f"{share.mean:.2f} {share:.2f} on {share.users} unseen users"


def _against_echo(users: PartQuality) -> str:
    above, echo = users.above_echo, users.controls[ECHO].accuracy
    verb = "beats" if above.low > 0 else "is beaten by" if above.high < 0 else "is no better than"
    return f"{verb} the echo rule ({echo.kinds.get(HEADLINE, echo.overall).mean:.2f})"


def _records(part: str, scored: PairScores) -> Iterator[PairScore]:
    interactions = iter(scored.interactions)
    for pair, margin in zip(*scored.own, strict=True):
        yield PairScore(
            query_id=pair.query_id,
            user_id=pair.user_id,
            part=part,
            kind=pair.kind,
            margin=margin,
            interaction=next(interactions) if is_crossed(pair) else None,
        )
