"""Generations of two sides, for tests of what compares them."""

import msgspec

from prlm_cli.core.records import Generation

TARGET = "net: fix a leak"
BASE = Generation(
    query_id="q1", user_id="u1", text="a text", target=TARGET, profile=[], retriever="bm25",
    completion="c", reasoning=None, answer=TARGET, policy="p", seed=0,
)  # fmt: skip


def generations(*answers, users=None, start=0, seed=0):
    """One generation an answer: query q0 of user u0, and so on."""
    owners = users or [f"u{n}" for n in range(start, start + len(answers))]
    return [
        msgspec.structs.replace(BASE, query_id=f"q{n}", user_id=user, answer=answer, seed=seed)
        for n, (answer, user) in enumerate(zip(answers, owners, strict=True), start=start)
    ]
