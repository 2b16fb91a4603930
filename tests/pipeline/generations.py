"""Generations made up for tests."""

from __future__ import annotations

import msgspec

from prlm_cli.core.records import Generation, ProfileDocument

TARGET = "net: fix a leak"
_BASE = Generation(
    query_id="q", user_id="u", text="a text", target=TARGET, profile=[], retriever="bm25",
    completion="c", reasoning=None, answer=TARGET, policy="trained", seed=0,
)  # fmt: skip


def generation(number=0, **fields):
    """Query qN of user uN, answered as the user did."""
    return msgspec.structs.replace(_BASE, **{"query_id": f"q{number}", "user_id": f"u{number}"} | fields)


def document(text, number=0):
    return ProfileDocument(doc_id=f"d{number}", text=text, title=None, score=1.0, rank=number + 1)
