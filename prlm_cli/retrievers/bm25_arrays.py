"""BM25 over arrays: the same scores to the bit, for many queries or long histories.

A history is one array of term hashes. The first queries scan it; a long one that is asked again and again gets its
postings, once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prlm_cli.core.history import History
from prlm_cli.retrievers.bm25_postings import Matches, Postings, View, runs
from prlm_cli.retrievers.eligible import Eligible
from prlm_cli.retrievers.okapi import idf, length_norm

_LOW_BITS = 2**16
_SCANS = 10  # queries before postings pay
_LONG = 1000  # documents
_FEW = 256  # documents that are sorted sooner than cut


def candidates(wanted: Counter[int], history: History, seen: Eligible, k: int) -> list[tuple[float, int]]:
    """Score and position of the documents seen; of many only the best k and those that tie with the k-th.

    Args:
        wanted: The query's term hashes and how often each stands there.
        history: The user's documents.
        seen: Those that count.
        k: How many are wanted, at least 1.
    """
    if not len(seen):
        return []
    arrays = history.derived.get("bm25")
    if arrays is None:
        arrays = history.derived["bm25"] = _Arrays(history)
    scores = arrays.scores(wanted, seen)
    if len(scores) <= max(k, _FEW):
        pairs = zip(scores.tolist(), seen.span, strict=True)
        return [pair for pair in pairs if pair[1] not in seen.hidden] if seen.hidden else list(pairs)
    return _cut(scores, history, seen, k)


class _Arrays:
    """One history as arrays."""

    def __init__(self, history: History) -> None:
        self._hashes = np.frombuffer(b"".join([entry.hashes for entry in history.entries]), dtype="<u8")
        self._lengths = np.array([len(entry.hashes) >> 3 for entry in history.entries], dtype=np.int64)
        self._starts = np.zeros(len(history) + 1, dtype=np.int64)
        np.cumsum(self._lengths, out=self._starts[1:])
        self._postings: Postings | None = None
        self._scans = 0

    def scores(self, wanted: Counter[int], seen: Eligible) -> NDArray[np.float64]:
        """The score of each document of the span, (N,); of hidden ones -inf."""
        lengths = self._lengths[seen.span.start : seen.span.stop]
        shown = np.ones(len(lengths), dtype=np.bool_)
        shown[[position - seen.span.start for position in seen.hidden]] = False
        view = View(seen, shown, length_norm(lengths, lengths[shown].sum() / len(seen)))
        postings = self._postings_if_they_pay()
        scores = postings.scores(wanted, view) if postings else self._scanned_scores(wanted, view)
        if seen.hidden:
            scores[~shown] = -np.inf
        return scores

    def _postings_if_they_pay(self) -> Postings | None:
        if self._postings is None and len(self._lengths) >= _LONG:
            self._scans += 1
            if self._scans > _SCANS:
                self._postings = Postings(self._hashes, self._lengths)
        return self._postings

    def _scanned_scores(self, wanted: Counter[int], view: View) -> NDArray[np.float64]:
        ordered = sorted(wanted)
        matches = self._scan(np.array(ordered, dtype="<u8"), view.seen.span)
        if view.seen.hidden:
            keep = view.shown[matches.documents]
            matches = Matches(*(column[keep] for column in matches))
        if not len(matches.terms):
            return np.zeros(len(view.shown))
        weights = _weights(wanted, ordered, matches.terms, len(view.seen))
        parts = weights[matches.terms] * matches.counts / (matches.counts + view.norms[matches.documents])
        scores: NDArray[Any] = np.bincount(matches.documents, parts, len(view.shown))
        return scores

    def _scan(self, terms: NDArray[np.uint64], span: range) -> Matches:
        """The matches in a stretch: documents by their place in it, terms by theirs among those given."""
        begin = self._starts[span.start]
        hashes = self._hashes[begin : self._starts[span.stop]]
        is_near = np.zeros(_LOW_BITS, dtype=np.bool_)
        is_near[terms & np.uint64(_LOW_BITS - 1)] = True
        near = is_near[hashes.view("<u2")[::4]].nonzero()[0]  # most words of a document are not the query's
        places = terms.searchsorted(hashes[near])
        places[places == len(terms)] = 0
        hits = (terms[places] == hashes[near]).nonzero()[0] if len(near) else near
        documents = self._starts.searchsorted(near[hits] + begin, side="right") - 1 - span.start
        return runs(documents, places[hits])


def _weights(wanted: Counter[int], ordered: Sequence[int], matched: NDArray[Any], n: int) -> NDArray[np.float64]:
    """`bm25.term_weights` of the terms in their order, from the places of those that matched: (T,)."""
    found = np.bincount(matched, minlength=len(ordered)).tolist()
    idfs = {df: idf(n, df) for df in set(found)}
    return np.array([wanted[term] * idfs[df] for term, df in zip(ordered, found, strict=True)])


def _cut(scores: NDArray[np.float64], history: History, seen: Eligible, k: int) -> list[tuple[float, int]]:
    last = np.partition(scores, -k)[-k]  # -inf where fewer than k are seen
    above, tied = (scores > last).nonzero()[0], (scores == last).nonzero()[0]
    if last == -np.inf:
        chosen = above
    else:
        chosen = np.concatenate((above, tied[_newest(tied + seen.span.start, history, k - len(above)) :]))
    return list(zip(scores[chosen].tolist(), (chosen + seen.span.start).tolist(), strict=True))


def _newest(positions: NDArray[np.int64], history: History, count: int) -> int:
    """Where the newest `count` of ascending positions begin, with those of the same date as the oldest of them."""
    first = len(positions) - count
    entries = history.entries
    while first and entries[positions[first - 1]].until == entries[positions[first]].until:
        first -= 1
    return first
