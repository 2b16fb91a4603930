"""The postings of a long history that is asked again and again: from each term to its documents."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from prlm_cli.retrievers.eligible import Eligible
from prlm_cli.retrievers.okapi import idf

_KEPT = 2**23  # matches that are kept of earlier queries, 16 bytes each


class Matches(NamedTuple):
    """Every pair of a document and a term that it holds, with how often; (M,) each."""

    documents: NDArray[np.int64]
    terms: NDArray[Any]
    counts: NDArray[np.int64]


class View(NamedTuple):
    """What a query sees of a history: for each document of the span whether it is shown, and its length norm, (N,)."""

    seen: Eligible
    shown: NDArray[np.bool_]
    norms: NDArray[np.float64]


class Postings:
    """A history from each term to its documents.

    What a term adds to the scores is kept for the next query, as long as the same documents are seen.

    Args:
        hashes: Those of all documents, in their order.
        lengths: How many each has.
    """

    def __init__(self, hashes: NDArray[np.uint64], lengths: NDArray[np.int64]) -> None:
        order = np.argsort(hashes, kind="stable")
        documents = np.repeat(np.arange(len(lengths), dtype=np.int64), lengths)[order]
        self._documents, matched, self._counts = runs(documents, hashes[order])
        terms, starts = np.unique(matched, return_index=True)
        self._bounds = dict(zip(terms.tolist(), pairwise([*starts.tolist(), len(matched)]), strict=True))
        self._seen: Eligible | None = None
        self._parts: dict[tuple[int, int], tuple[NDArray[np.int64], NDArray[np.float64]]] = {}
        self._kept = 0

    def scores(self, wanted: Counter[int], view: View) -> NDArray[np.float64]:
        """The score of each document of the span, (N,)."""
        if view.seen != self._seen or self._kept > _KEPT:
            self._seen, self._parts, self._kept = view.seen, {}, 0
        scores = np.zeros(len(view.shown))
        # A term at a time: each goes through the cache of the processor once, and no list of all matches is made.
        for key in sorted(wanted.items()):
            if key not in self._parts:
                self._parts[key] = self._part(*key, view)
                self._kept += len(self._parts[key][0])
            documents, part = self._parts[key]
            scores[documents] += part
        return scores

    def _part(self, term: int, count: int, view: View) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The documents seen that hold a term, by their place in the span, and what it adds to their scores."""
        begin, end = self._bounds.get(term, (0, 0))
        span = view.seen.span
        first, last = self._documents[begin:end].searchsorted((span.start, span.stop)).tolist()
        held = slice(begin + first, begin + last)
        documents, counts = self._documents[held] - span.start, self._counts[held]
        if view.seen.hidden:
            keep = view.shown[documents]
            documents, counts = documents[keep], counts[keep]
        if not len(documents):
            return documents, np.zeros(0)
        weight = count * idf(len(view.seen), len(documents))
        return documents, weight * counts / (counts + view.norms[documents])


def runs(documents: NDArray[Any], terms: NDArray[Any]) -> Matches:
    """Each document and term that stand side by side, once, and how often."""
    n = len(terms)
    is_first = np.ones(n, dtype=np.bool_)
    is_first[1:] = (documents[1:] != documents[:-1]) | (terms[1:] != terms[:-1])
    firsts = is_first.nonzero()[0]
    ends = np.empty_like(firsts)
    ends[:-1], ends[-1:] = firsts[1:], n
    return Matches(documents[firsts], terms[firsts], ends - firsts)
