"""BM25 over arrays: the same scores to the bit, for many queries or long histories.

A history is one array of term hashes. The first queries scan it; a long one that is asked again and again gets its
postings, once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from prlm_cli.core.history import History
from prlm_cli.retrievers.eligible import Eligible
from prlm_cli.retrievers.okapi import idf, length_norm

_LOW_BITS = 2**16
_SCANS = 10  # queries before postings pay
_LONG = 1000  # documents
_KEPT = 2**23  # matches that are kept of earlier queries, 16 bytes each
_FEW = 256  # documents that are sorted sooner than cut


class _Matches(NamedTuple):
    """Every pair of a document and a term that it holds; of equal ones of the two side by side, the first."""

    documents: NDArray[np.int64]
    terms: NDArray[Any]
    counts: NDArray[np.int64]


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
        self._postings: _Postings | None = None
        self._scans = 0
        self._seen: Eligible | None = None
        self._kept = 0
        self._parts: dict[tuple[int, int], tuple[NDArray[np.int64], NDArray[np.float64]]] = {}
        """Of a term and its count in a query: documents and what it adds to their scores, while the same are seen."""

    def scores(self, wanted: Counter[int], seen: Eligible) -> NDArray[np.float64]:
        """The score of each document of the span, (N,); of hidden ones -inf."""
        span = slice(seen.span.start, seen.span.stop)
        shown = np.ones(len(seen.span), dtype=np.bool_)
        shown[[position - span.start for position in seen.hidden]] = False
        average = self._lengths[span][shown].sum() / len(seen)
        norms = length_norm(self._lengths[span], average)
        found = self._scores_of_long if self._has_postings() else self._scores_of_short
        scores = found(wanted, seen, norms, shown)
        if seen.hidden:
            scores[~shown] = -np.inf
        return scores

    def _has_postings(self) -> bool:
        if self._postings is None and len(self._lengths) >= _LONG:
            self._scans += 1
            if self._scans > _SCANS:
                self._postings = _Postings(self._hashes, self._lengths)
        return self._postings is not None

    def _scores_of_long(
        self, wanted: Counter[int], seen: Eligible, norms: NDArray[np.float64], shown: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        if seen != self._seen or self._kept > _KEPT:
            self._seen, self._parts, self._kept = seen, {}, 0
        scores = np.zeros(len(shown))
        # A term at a time: each goes through the cache of the processor once, and no list of all matches is made.
        for term in sorted(wanted):
            key = term, wanted[term]
            if key not in self._parts:
                self._parts[key] = self._part(term, wanted[term], seen, norms, shown)
                self._kept += len(self._parts[key][0])
            documents, part = self._parts[key]
            scores[documents] += part
        return scores

    def _part(
        self, term: int, count: int, seen: Eligible, norms: NDArray[np.float64], shown: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The documents seen that hold a term, by their place in the span, and what it adds to their scores."""
        assert self._postings is not None
        documents, counts = self._postings.find(term, seen.span)
        if seen.hidden:
            keep = shown[documents]
            documents, counts = documents[keep], counts[keep]
        if not len(documents):
            return documents, np.zeros(0)
        return documents, count * idf(len(seen), len(documents)) * counts / (counts + norms[documents])

    def _scores_of_short(
        self, wanted: Counter[int], seen: Eligible, norms: NDArray[np.float64], shown: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        ordered = sorted(wanted)
        matches = self._scan(np.array(ordered, dtype="<u8"), seen.span)
        if seen.hidden:
            keep = shown[matches.documents]
            matches = _Matches(*(column[keep] for column in matches))
        if not len(matches.terms):
            return np.zeros(len(shown))
        weights = _weights(wanted, ordered, matches.terms, len(seen))
        parts = weights[matches.terms] * matches.counts / (matches.counts + norms[matches.documents])
        scores: NDArray[Any] = np.bincount(matches.documents, parts, len(shown))
        return scores

    def _scan(self, terms: NDArray[np.uint64], span: range) -> _Matches:
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
        return _runs(documents, places[hits])


class _Postings:
    """A history from each term to its documents."""

    def __init__(self, hashes: NDArray[np.uint64], lengths: NDArray[np.int64]) -> None:
        order = np.argsort(hashes, kind="stable")
        documents = np.repeat(np.arange(len(lengths), dtype=np.int64), lengths)[order]
        self._documents, matched, self._counts = _runs(documents, hashes[order])
        terms, starts = np.unique(matched, return_index=True)
        self._bounds = dict(zip(terms.tolist(), pairwise([*starts.tolist(), len(matched)]), strict=True))

    def find(self, term: int, span: range) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The documents of a stretch of the history that hold the term, by their place in it, and how often each."""
        begin, end = self._bounds.get(term, (0, 0))
        documents = self._documents[begin:end]
        first, last = documents.searchsorted((span.start, span.stop)).tolist()
        places = documents[first:last] - span.start if span.start else documents[first:last]
        return places, self._counts[begin + first : begin + last]


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
