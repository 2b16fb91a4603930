from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prlm_cli.core.errors import DataError
from prlm_cli.core.records import PreferencePair
from prlm_cli.core.settings import RewardSettings
from prlm_cli.pipeline.held_out import heldout_users, is_heldout_query, split_pairs

_USERS = st.sampled_from([f"u{n}" for n in range(9)])


def _pair(n, user, other):
    return PreferencePair(
        query_id=f"q{n}",
        user_id=user,
        kind="own>swapped",
        text="",
        profile=[],
        chosen="a",
        rejected="b",
        swapped_user_id=other,
    )


def test_the_share_of_held_out_users_is_about_as_set_and_the_same_in_every_run():
    users = [f"u{n}" for n in range(2000)]
    held_out = heldout_users(users, 0.2)

    assert len(held_out) == pytest.approx(400, abs=60)
    assert heldout_users(users, 0.1) < held_out
    assert heldout_users(users[::2], 0.2) == held_out & set(users[::2])


@given(st.sets(st.text(max_size=3), min_size=2, max_size=12), st.floats(0.01, 0.99))
def test_of_two_users_or_more_some_are_held_out_and_some_are_not(users, share):
    assert set() < heldout_users(users, share) < users


def test_the_share_of_held_out_queries_is_about_as_set():
    queries = [f"q{n}" for n in range(2000)]
    held_out = {query for query in queries if is_heldout_query(query, 0.1)}

    assert len(held_out) == pytest.approx(200, abs=45)
    assert not any(is_heldout_query(query, 0.0) for query in queries)
    # Users and queries of the same names are not held out together.
    assert len(held_out & heldout_users(queries, 0.1)) < 60


@given(rows=st.lists(st.tuples(_USERS, st.none() | _USERS), min_size=1), share=st.floats(0.1, 0.9))
def test_nothing_of_a_held_out_user_or_query_is_trained_on(rows, share):
    pairs = [_pair(n, user, other) for n, (user, other) in enumerate(rows)]
    settings = RewardSettings(heldout_share=share, heldout_queries=0.3)
    try:
        training, of_users, of_queries = split_pairs(pairs, settings)
    except DataError:
        return

    users = heldout_users((pair.user_id for pair in pairs), share)
    assert not users & {pair.user_id for pair in training}
    assert not {pair.query_id for pair in training} & {pair.query_id for pair in [*of_users, *of_queries]}
    assert {pair.user_id for pair in of_users} == users
    assert not users & {pair.user_id for pair in of_queries}
    rest = [pair for pair in pairs if pair.user_id not in users and not is_heldout_query(pair.query_id, 0.3)]
    apart = [pair for pair in rest if pair.swapped_user_id not in users]
    assert training == (apart or rest)  # their records are seen only where nothing else is left


def test_pairs_of_one_user_cannot_be_split():
    with pytest.raises(DataError, match="all pairs are of one user; another one is needed to test on"):
        split_pairs([_pair(1, "ada", None), _pair(2, "ada", "ben")], RewardSettings())


def test_where_all_queries_are_held_out_nothing_is_left_to_train_on():
    with pytest.raises(DataError, match="of 2 pairs none is left to train on; bring more of them"):
        split_pairs([_pair(1, "ada", None), _pair(2, "ben", None)], RewardSettings(heldout_queries=0.999999))
