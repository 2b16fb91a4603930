"""Which of two answers fits a user better, by a judge that is asked twice, with the places of the answers swapped.

Judges prefer a place, often the first (Zheng et al., arXiv 2306.05685). A verdict counts only where both orders give
the same answer; anything else is a tie, and how often that is so is reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from prlm_cli.core.records import ProfileDocument
from prlm_cli.metrics.intervals import Interval, mean_interval
from prlm_cli.pipeline.choosers import Chooser, Question

Verdict = Literal["a", "b", "tie"]


class Rivals(NamedTuple):
    """Two answers to one query, what is known of its user, and whom a person preferred, where that is known."""

    query_id: str
    user_id: str
    text: str
    a: str
    b: str
    profile: Sequence[ProfileDocument] = ()
    preference: str | None = None
    label: Verdict | None = None


class Judged(NamedTuple):
    """What a judge said of two answers: the place it chose with `a` first and with `b` first, 0 or 1."""

    rivals: Rivals
    a_first: int | None
    b_first: int | None

    @property
    def verdict(self) -> Verdict:
        """The answer that won in both orders, else a tie."""
        return {(0, 1): "a", (1, 0): "b"}.get((self.a_first, self.b_first), "tie")  # type: ignore[return-value, arg-type]


def judge(judge: Chooser, rivals: Sequence[Rivals]) -> list[Judged]:
    """What a judge says of each pair of answers; equal answers are a tie without being asked."""
    asked = [pair for pair in rivals if pair.a != pair.b]
    forward = judge.choose([_question(pair, pair.a, pair.b, "ab") for pair in asked])
    backward = judge.choose([_question(pair, pair.b, pair.a, "ba") for pair in asked])
    places = iter(zip(forward, backward, strict=True))
    return [Judged(pair, *(next(places) if pair.a != pair.b else (None, None))) for pair in rivals]


class JudgeFigures(NamedTuple):
    """What a judge's verdicts come to.

    `win`, `tie`, `loss` are shares of all pairs, for `a`; `net` is win - loss. Of the pairs with two different answers:
    `consistent` is the share with the same verdict in both orders, `first_place` the share of readable choices that
    fell on whatever stood first (0.5 is without bias), `unread` the share of choices that could not be read.
    """

    win: Interval
    tie: Interval
    loss: Interval
    net: Interval
    consistent: Interval | None
    first_place: Interval | None
    unread: Interval | None


def judge_figures(judged: Sequence[Judged], *, resamples: int = 2000, seed: int = 0) -> JudgeFigures:
    """The figures of a judge, each with an interval clustered by user.

    Raises:
        DataError: If there are no verdicts.
    """

    def interval(rows: Sequence[tuple[float, str]]) -> Interval:
        values, users = [value for value, _ in rows], [user for _, user in rows]
        return mean_interval(values, users, resamples=resamples, seed=seed)

    def share(verdict: Verdict) -> Interval:
        return interval([(float(one.verdict == verdict), one.rivals.user_id) for one in judged])

    asked = [one for one in judged if one.rivals.a != one.rivals.b]
    choices = [(place, one.rivals.user_id) for one in asked for place in (one.a_first, one.b_first)]
    read = [(1.0 - place, user) for place, user in choices if place is not None]
    return JudgeFigures(
        win=share("a"),
        tie=share("tie"),
        loss=share("b"),
        net=interval([({"a": 1.0, "b": -1.0}.get(one.verdict, 0.0), one.rivals.user_id) for one in judged]),
        consistent=interval([(float(one.verdict != "tie"), one.rivals.user_id) for one in asked]) if asked else None,
        first_place=interval(read) if read else None,
        unread=interval([(float(place is None), user) for place, user in choices]) if choices else None,
    )


def _question(pair: Rivals, first: str, second: str, order: str) -> Question:
    return Question(f"{pair.query_id}#{order}", pair.text, (first, second), pair.profile, pair.preference)
