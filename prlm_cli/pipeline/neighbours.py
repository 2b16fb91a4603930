"""Training queries that are most like a query: whose users are near."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prlm_cli.core.records import Query, Retrieved
from prlm_cli.core.terms import Tokenizer
from prlm_cli.retrievers.okapi import K1, B


class Neighbours:
    """The training queries, by BM25 over their texts; the statistics are those of these texts alone.

    Args:
        queries: The training queries.
        tokenizer: Of the index.
    """

    def __init__(self, queries: Sequence[Retrieved], tokenizer: Tokenizer) -> None:
        import bm25s
        import numpy as np

        self._queries = sorted(queries, key=lambda query: query.query_id)
        self._tokenizer = tokenizer
        packed = tokenizer.packed_terms([query.text for query in self._queries])
        texts = [np.frombuffer(terms, dtype="<u8") for terms in packed]
        self._terms, places = np.unique(np.concatenate([np.empty(0, "<u8"), *texts]), return_inverse=True)
        if len(self._terms):
            ends = np.cumsum([len(text) for text in texts])
            documents = [part.tolist() for part in np.split(places, ends[:-1])]
            vocabulary = {int(term): place for place, term in enumerate(self._terms)}
            self._index = bm25s.BM25(method="lucene", k1=K1, b=B)
            self._index.index((documents, vocabulary), create_empty_token=False, show_progress=False)

    def of(self, query: Query) -> Iterator[Retrieved]:
        """Of each other user the query that is most like this one, the nearest first; of equal ones the first by id.

        A query that has no word in common with it is none.
        """
        import numpy as np

        asked = np.frombuffer(self._tokenizer.terms(query.text), dtype="<u8")
        known = np.searchsorted(self._terms, asked[np.isin(asked, self._terms)])
        if not len(known):
            return
        scores = self._index.get_scores(known.tolist())
        found = np.flatnonzero(scores > 0)
        met = {query.user_id}
        for place in found[np.argsort(-scores[found], kind="stable")].tolist():
            other = self._queries[place]
            if other.user_id not in met:
                met.add(other.user_id)
                yield other
