"""BM25 over arrays: the same scores to the bit, for many queries or long histories.

A history is one array of term hashes. The first queries scan it; a long one that is asked again and again gets its
postings, once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from prlm_cli.core.history import History
from prlm_cli.retrievers.eligible import Eligible
from prlm_cli.retrievers.okapi import idf, length_norm

_LOW_BITS = 2**16
_SCANS = 10  # queries before postings pay
_LONG = 1000  # documents
_FEW = 256  # documents that are sorted sooner than cut


class _Matches(NamedTuple):
    """Every pair of a document and a term of the query that it holds; the terms of a document ascend."""

    documents: NDArray[np.int64]  # positions in the history
    terms: NDArray[Any]  # places in the sorted terms of the query; of postings their hashes
    counts: NDArray[np.int64]

    def where(self, keep: NDArray[np.bool_]) -> _Matches:
        """The matches that are to be kept."""
        return _Matches(*(column[keep] for column in self))


def candidates(wanted: Counter[int], history: History, seen: Eligible, k: int) -> list[tuple[float, int]]:
    """Score and position of the documents seen; of many only the best k and those that tie with the k-th.

    Args:
        wanted: The query's term hashes and how often each stands there.
        history: The user's documents.
        seen: Those that count.
        k: How many are wanted, at least 1.
    """
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
        self._postings: _Postings | None = None
        self._scans = 0

    def scores(self, wanted: Counter[int], seen: Eligible) -> NDArray[np.float64]:
        """The score of each document of the span, (N,); of hidden ones -inf."""
        ordered = sorted(wanted)
        matches = self._find(np.array(ordered, dtype="<u8"), seen.span)
        first, n = seen.span.start, len(seen.span)
        hidden = list(seen.hidden)
        if hidden:
            shown = np.ones(n, dtype=np.bool_)
            shown[[position - first for position in hidden]] = False
            matches = matches.where(shown[matches.documents - first])
        scores: NDArray[Any] = np.zeros(n)
        if len(matches.terms):
            total = int(self._starts[seen.span.stop] - self._starts[first])
            if hidden:
                total -= int(self._lengths[hidden].sum())
            weights = _weights(wanted, ordered, matches.terms, len(seen))
            norms = length_norm(self._lengths[matches.documents], total / len(seen))
            parts = weights[matches.terms] * matches.counts / (matches.counts + norms)
            scores = np.bincount(matches.documents - first, parts, n)
        if hidden:
            scores[~shown] = -np.inf
        return scores

    def _find(self, terms: NDArray[np.uint64], span: range) -> _Matches:
        if self._scans < _SCANS or len(self._lengths) < _LONG:
            self._scans += 1
            return self._scan(terms, span)
        if self._postings is None:
            self._postings = _Postings(self._hashes, self._lengths)
        return self._postings.find(terms, span)

    def _scan(self, terms: NDArray[np.uint64], span: range) -> _Matches:
        begin = self._starts[span.start]
        hashes = self._hashes[begin : self._starts[span.stop]]
        is_near = np.zeros(_LOW_BITS, dtype=np.bool_)
        is_near[terms & np.uint64(_LOW_BITS - 1)] = True
        near = is_near[hashes.view("<u2")[::4]].nonzero()[0]  # most words of a document are not the query's
        places = terms.searchsorted(hashes[near])
        places[places == len(terms)] = 0
        hits = (terms[places] == hashes[near]).nonzero()[0] if len(near) else near
        documents = self._starts.searchsorted(near[hits] + begin, side="right") - 1
        return _runs(documents, places[hits])


class _Postings:
    """A history from each term to its documents."""

    def __init__(self, hashes: NDArray[np.uint64], lengths: NDArray[np.int64]) -> None:
        order = np.argsort(hashes, kind="stable")
        documents = np.repeat(np.arange(len(lengths), dtype=np.int64), lengths)[order]
        self._documents, self._hashes, self._counts = _runs(documents, hashes[order])

    def find(self, terms: NDArray[np.uint64], span: range) -> _Matches:
        """The matches of the terms in a stretch of the history."""
        begin = np.searchsorted(self._hashes, terms)
        lengths = np.searchsorted(self._hashes, terms, side="right") - begin
        places = np.repeat(np.arange(len(terms)), lengths)
        within = np.arange(len(places)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        rows = np.repeat(begin, lengths) + within
        matches = _Matches(self._documents[rows], places, self._counts[rows])
        return matches.where((matches.documents >= span.start) & (matches.documents < span.stop))


def _runs(documents: NDArray[Any], terms: NDArray[Any]) -> _Matches:
    """Each document and term that stand side by side, once, and how often: (M,) each."""
    n = len(terms)
    is_first = np.ones(n, dtype=np.bool_)
    is_first[1:] = (documents[1:] != documents[:-1]) | (terms[1:] != terms[:-1])
    firsts = is_first.nonzero()[0]
    ends = np.empty_like(firsts)
    ends[:-1], ends[-1:] = firsts[1:], n
    return _Matches(documents[firsts], terms[firsts], ends - firsts)


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
