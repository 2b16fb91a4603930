"""Generations for tests of metrics: one answer and its target, real pairs, and nasty ones."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import msgspec

from prlm_cli.core.records import Generation

BASE = Generation(
    query_id="q1", user_id="u1", text="a text", target="a target", profile=[], retriever="bm25",
    completion="c", reasoning=None, answer="an answer", policy="p", seed=0,
)  # fmt: skip
NASTY = [
    ("", "a title"),
    (" \n", "a title"),
    ("title", "title"),
    ("a", "a b"),
    ("...", "a title"),
    ("a . b .", "a . b ."),
    ("日本語 の テスト", "日本語 テスト"),
    ("İstanbul naïve ﬁx", "istanbul naive fix"),
    ("🎉🎉 done\u200b", "🎉 done"),
    ("line\nof two\r\nlines", "line of\ntwo lines"),
    ("net/ixgbe: C++ 3.5% (v2.1--rc) AT&T", "net: c# 3.5%"),
    ("word " * 3000, "word other " * 1500),
]


def answered(answer: str | None, target: str | None, task: str | None = None) -> Generation:
    """A generation with that answer and target, and where a task is named, of that task."""
    return msgspec.structs.replace(BASE, answer=answer, target=target, meta={"task": task} if task else {})


def real_pairs(shared_data: Path) -> list[tuple[str, str]]:
    """Thousands of (answer, target): another title, and the beginning of the text, against what the user wrote."""
    found = []
    for path in sorted(shared_data.glob("*/queries.*.jsonl")):
        if not path.parent.name.endswith("-small"):
            queries = [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]
            for query, other in pairwise(queries):
                found += [(text, query["target"].strip()) for text in (other["target"], query["text"][:60])]
    return found
