"""Scorers whose behaviour is known, and pairs that tell them apart."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from prlm_cli.core.records import Generation, PreferencePair, ProfileDocument
from prlm_cli.metrics.rouge import rouge
from prlm_cli.models.scorer import Item


class Scorer:
    """A scorer that is a function of the item."""

    def __init__(self, score: Callable[[Item], float]) -> None:
        self._score = score

    def scores(self, items: Sequence[Item]) -> list[float]:
        return [self._score(item) for item in items]


def profile_of(user: int, *titles: str) -> list[ProfileDocument]:
    return [ProfileDocument(doc_id=f"style{user}", text="a text", title=t, rank=n) for n, t in enumerate(titles, 1)]


def pairs_of(users: int = 20, queries: int = 2, *, titled: bool = True) -> list[PreferencePair]:
    """Three kinds of pairs a query. Whose style an answer is of stands in it, and in the ids of a user's records.

    `titled` says whether it stands in their titles as well, where the echo rule sees it.
    """
    found = []
    for user in range(users):
        other = (user + 1) % users
        own, others = (profile_of(of, *((f"style{of} deep", f"style{of}") if titled else "-")) for of in (user, other))
        for query in range(queries):
            target = f"style{user} topic{query} is what was really written"
            answers = {
                "target": target,
                "own": f"style{user} topic{query} is so",
                "swapped": f"style{other} topic{query} is what was so",
                "zero_shot": f"about topic{query} and more, and all that was written",
            }
            for kind in ("own>zero_shot", "own>swapped", "target>swapped"):
                chosen, rejected = kind.split(">")
                crossed = {"swapped_user_id": f"u{other}", "swapped_profile": others} if rejected == "swapped" else {}
                found.append(
                    PreferencePair(
                        query_id=f"u{user}-q{query}",
                        user_id=f"u{user}",
                        kind=kind,
                        text=f"text {user} {query}",
                        profile=own,
                        chosen=answers[chosen],
                        rejected=answers[rejected],
                        target=target,
                        **crossed,
                    )
                )
    return found


def sampled(pair: PreferencePair, answers: Sequence[str | None]) -> list[Generation]:
    """What a policy wrote for the query of a pair."""
    written = {"completion": "", "reasoning": None, "policy": "untrained", "seed": 0, "retriever": ""}
    asked = {name: getattr(pair, name) for name in ("query_id", "user_id", "text", "target", "profile")}
    return [Generation(**asked, **written, answer=answer) for answer in answers]


def _fits(item: Item) -> float:
    return float(any(record.doc_id in item.answer for record in item.profile[:1]))


def noise(seed: object) -> Scorer:
    """Scores that depend on all of the item, and mean nothing."""

    def score(item: Item) -> float:
        digest = hashlib.blake2b(repr((seed, item)).encode(), digest_size=4).digest()
        return int.from_bytes(digest, "little") / 2**32

    return Scorer(score)


def _blind_noise(item: Item) -> float:
    return noise("blind").scores([item._replace(profile=[])])[0]


PERFECT = Scorer(_fits)
WRONG_WAY_ROUND = Scorer(lambda item: -_fits(item))
BLIND = Scorer(_blind_noise)
LENGTH_LOVER = Scorer(lambda item: float(len(item.answer.split())))
CONSTANT = Scorer(lambda item: 1.0)


def by_rouge(sign: int, pairs: Sequence[PreferencePair]) -> Scorer:
    """Knows the targets: scores by ROUGE-L against them, or with -1 by its opposite."""
    targets = {pair.text: pair.target or "" for pair in pairs}
    return Scorer(lambda item: sign * rouge(item.answer, targets.get(item.text, "")).rouge_l)
