"""What a reward model is not trained on: whole users, and some queries of the others. The same ones in every run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from prlm_cli.core.errors import DataError
from prlm_cli.core.records import PreferencePair
from prlm_cli.core.settings import RewardSettings


class Split(NamedTuple):
    """Pairs to train on, those of held-out users, and those of held-out queries of the other users."""

    training: list[PreferencePair]
    heldout_users: list[PreferencePair]
    heldout_queries: list[PreferencePair]


def split_pairs(pairs: Sequence[PreferencePair], settings: RewardSettings) -> Split:
    """The pairs apart.

    A pair that would show a held-out user's records to the training is in none of the parts, unless there are so few
    users that no other pair is left.

    Raises:
        DataError: If all pairs are of one user, or none is left to train on.
    """
    users = heldout_users((pair.user_id for pair in pairs), settings.heldout_share)
    if not users:
        raise DataError("all pairs are of one user; another one is needed to test on", hint="index more users")
    training: list[PreferencePair] = []
    of_users: list[PreferencePair] = []
    of_queries: list[PreferencePair] = []
    revealing: list[PreferencePair] = []
    for pair in pairs:
        if pair.user_id in users:
            of_users.append(pair)
        elif is_heldout_query(pair.query_id, settings.heldout_queries):
            of_queries.append(pair)
        elif pair.swapped_user_id in users:
            revealing.append(pair)
        else:
            training.append(pair)
    split = Split(training or revealing, of_users, of_queries)
    if not split.training:
        raise DataError(
            f"of {len(pairs)} pairs none is left to train on",
            hint="bring more of them, or lower reward.heldout_share and reward.heldout_queries",
        )
    return split


def heldout_users(user_ids: Iterable[str], share: float) -> set[str]:
    """The users kept for the test: those whose id hashes below the share, so the same ones in every run.

    At least one of them, and at least one of the others, as long as there are two: few users may hash all to one side.
    """
    ranked = sorted((_fraction(user_id), user_id) for user_id in set(user_ids))
    count = sum(fraction < share for fraction, _ in ranked)
    return {user_id for _, user_id in ranked[: max(1, min(count, len(ranked) - 1))]} if len(ranked) > 1 else set()


def is_heldout_query(query_id: str, share: float) -> bool:
    """Whether a query of a user that is trained on is kept for the test."""
    return _fraction(f"query:{query_id}") < share  # not as users hash: an id may name both


def _fraction(text: str) -> float:
    """A number in [0, 1) that depends on the text alone."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "little") / 2**32
