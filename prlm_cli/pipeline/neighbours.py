"""Training queries that are most like a query: whose users are near."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prlm_cli.core.records import Query, Retrieved
from prlm_cli.core.terms import Tokenizer


class Neighbours:
    """The training queries, by BM25 over their texts; the statistics are those of these texts alone.

    Args:
        queries: The training queries.
        tokenizer: Of the index.
    """

    def __init__(self, queries: Sequence[Retrieved], tokenizer: Tokenizer) -> None:
        from prlm_cli.retrievers.term_index import build_index

        self._queries = sorted(queries, key=lambda query: query.query_id)
        self._tokenizer = tokenizer
        hashes = tokenizer.packed_terms([query.text for query in self._queries])
        self._index = build_index(hashes) if any(hashes) else None

    def of(self, query: Query) -> Iterator[Retrieved]:
        """Of each other user the query that is most like this one, the nearest first; of equal ones the first by id.

        A query that has no word in common with it is none.
        """
        import numpy as np

        from prlm_cli.retrievers.term_index import places_of

        if self._index is None:
            return
        terms, index = self._index
        known = places_of(self._tokenizer.terms(query.text), terms)
        if not known:
            return
        scores = index.get_scores(known)
        found = np.flatnonzero(scores > 0)
        met = {query.user_id}
        for place in found[np.argsort(-scores[found], kind="stable")].tolist():
            other = self._queries[place]
            if other.user_id not in met:
                met.add(other.user_id)
                yield other
