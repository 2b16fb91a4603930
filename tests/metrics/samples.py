"""Rows of users, made by chance, for tests of what takes users as the sample."""

import random

from hypothesis import strategies as st

ROWS = st.lists(
    st.tuples(st.floats(0, 1, width=32), st.floats(0, 1, width=32), st.sampled_from("abcdef")), min_size=1, max_size=30
)


def columns(rows):
    a, b, user_ids = zip(*rows, strict=True)
    return list(a), list(b), list(user_ids)


def simulated(users, seed, effect=0.0):
    """Rows of users who differ: each user's rows share a level, and users have one to four rows."""
    rng = random.Random(seed)
    rows = []
    for user in range(users):
        level = rng.gauss(effect, 1.0)
        rows += [(level + rng.gauss(0.0, 0.3), f"u{user}") for _ in range(rng.randint(1, 4))]
    return [value for value, _ in rows], [user_id for _, user_id in rows]
