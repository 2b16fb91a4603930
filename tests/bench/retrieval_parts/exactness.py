"""Whether what we retrieve is what bm25s retrieves (Lucene's variant, float64) over the same words.

The words are ours: bm25s's own tokeniser takes a Chinese sentence for one word. Elsewhere the two agree, as the tests
of `core/terms` hold.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from statistics import mean
from typing import NamedTuple

import bm25s

from prlm_cli.core import jsonl
from prlm_cli.core.dates import parse_period
from prlm_cli.core.records import Document, ProfileDocument, Query
from prlm_cli.core.terms import tokenizer
from prlm_cli.core.workspace import Workspace
from prlm_cli.pipeline.index import index
from prlm_cli.pipeline.retrieve import retrieve
from tests.bench.figures import Figures
from tests.bench.retrieval_parts.stores import SETTINGS, Bench, K

TOLERANCE = 1e-9
_WORDS = tokenizer("english").words


class Oracle:
    """bm25s over one user's documents."""

    def __init__(self, documents: Sequence[Document]) -> None:
        self._documents = documents
        self._index = bm25s.BM25(method="lucene", k1=1.5, b=0.75, dtype="float64")
        texts = [f"{document.title or ''}\n{document.text}" for document in documents]
        self._index.index([_WORDS(text) for text in texts], show_progress=False)

    def scores(self, query: str) -> dict[str, float]:
        """The score of every document, by `doc_id`."""
        known = self._index.get_tokens_ids(_WORDS(query))
        scores = self._index.get_scores_from_ids(known).tolist() if known else [0.0] * len(self._documents)
        return dict(zip((document.doc_id for document in self._documents), scores, strict=True))


class Agreement(NamedTuple):
    """Whether the order is the oracle's, and by how much the scores differ at most."""

    is_same: bool
    difference: float


def agreement(profile: Sequence[ProfileDocument], scores: dict[str, float], k: int) -> Agreement:
    """Holds a retrieved profile against the oracle's scores of all documents.

    The order is the same if at each rank stands a document with the oracle's score of that rank. So ties are put
    aside; within them the newer document must come first, and of two of one date the smaller `doc_id`.
    """
    expected = sorted(scores.values(), reverse=True)[:k]
    if len({document.doc_id for document in profile}) != len(expected):
        return Agreement(False, float("inf"))
    own = [scores[document.doc_id] for document in profile]
    difference = max((abs(document.score - score) for document, score in zip(profile, own, strict=True)), default=0.0)
    is_same = all(abs(one - other) <= TOLERANCE for one, other in zip(own, expected, strict=True))
    return Agreement(is_same and _ties_are_in_order(profile), difference)


def _ties_are_in_order(profile: Sequence[ProfileDocument]) -> bool:
    keys = [(-document.score, -_until(document), document.doc_id) for document in profile]
    return keys == sorted(keys)


def _until(document: ProfileDocument) -> int:
    return 0 if document.date is None else parse_period(document.date).end


def measure_exact(bench: Bench, figures: Figures) -> None:
    """The order and the scores of the best k, held against bm25s: half on real histories, half on made ones."""
    half = bench.scale.pairs // 2
    real = Workspace(bench.folder / "real")
    profiles = bench.data / "profiles.jsonl"
    index(real, [profiles])
    histories: dict[str, list[Document]] = {}
    for document in jsonl.read(profiles, Document):
        histories.setdefault(document.user_id, []).append(document)
    queries = [query for path in sorted(bench.data.glob("queries.*.jsonl")) for query in jsonl.read(path, Query)]
    own = queries[: half // 2]
    made = bench.by_size["10k"]
    asked = [query for user in range(len(made.corpus.sizes)) for query in made.corpus.queries(user)]
    by_id = {query.user_id: list(made.corpus.documents(user)) for user, query in enumerate(asked)}
    found = [
        *_agreements(real, histories, [*own, *_random_pairs(histories, queries, half - len(own))]),
        *_agreements(made.workspace, by_id, _random_pairs(by_id, asked, half)),
    ]
    figures.add("exact_pairs", len(found), "pairs")
    figures.add("exact_same_order_share", mean(agreed.is_same for agreed in found), "")
    figures.add("exact_max_score_difference", max(agreed.difference for agreed in found), "")


def _random_pairs(histories: dict[str, list[Document]], queries: Sequence[Query], count: int) -> Iterator[Query]:
    """Anybody's queries, asked by anybody; not by one whose history holds that text, which would not be eligible."""
    rng = random.Random("pairs")
    users = list(histories)
    made = 0
    while made < count:
        user_id, text = rng.choice(users), rng.choice(queries).text
        if all(document.text.split() != text.split() for document in histories[user_id]):
            made += 1
            yield Query(query_id=f"pair-{made}", user_id=user_id, text=text)


def _agreements(
    workspace: Workspace, histories: dict[str, list[Document]], queries: Iterable[Query]
) -> Iterator[Agreement]:
    oracle = cache(lambda user_id: Oracle(histories[user_id]))
    with workspace.open_store() as store:
        for found in retrieve(store, queries, SETTINGS, seed=0):
            yield agreement(found.profile, oracle(found.user_id).scores(found.text), K)
