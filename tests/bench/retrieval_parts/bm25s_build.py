"""Builds a bm25s index over the texts of a JSONL file, in a process of its own; writes the seconds of the build.

Reading the file is not counted: only tokenising and indexing are.

    python bm25s_build.py DOCUMENTS.jsonl
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import bm25s
import msgspec
from Stemmer import Stemmer


def main(path: Path) -> float:
    """The seconds that tokenising and indexing took."""
    with path.open("rb") as lines:
        texts = [f"{record['title']}\n{record['text']}" for record in map(msgspec.json.decode, lines)]
    start = time.perf_counter()
    tokens = bm25s.tokenize(texts, stemmer=Stemmer("english"), show_progress=False)
    bm25s.BM25().index(tokens, show_progress=False)
    return time.perf_counter() - start


if __name__ == "__main__":
    sys.stdout.write(str(main(Path(sys.argv[1]))))
