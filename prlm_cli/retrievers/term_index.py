"""bm25s over documents of which only the term hashes are kept."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prlm_cli.retrievers.okapi import K1, B

Terms = NDArray[np.uint64]


def build_index(documents: Sequence[bytes]) -> tuple[Terms, Any]:
    """The terms of the documents, ascending, each once; and bm25s' index, which knows a term by its place there.

    Args:
        documents: The packed term hashes of each; between them they have a term.
    """
    import bm25s

    terms, places = np.unique(np.frombuffer(b"".join(documents), dtype="<u8"), return_inverse=True)
    ends = np.cumsum([len(hashes) >> 3 for hashes in documents])
    of_documents = [part.tolist() for part in np.split(places, ends[:-1])]
    vocabulary = {int(term): place for place, term in enumerate(terms)}
    index = bm25s.BM25(method="lucene", k1=K1, b=B)
    index.index((of_documents, vocabulary), create_empty_token=False, show_progress=False)
    return terms, index


def places_of(asked: array[int], terms: Terms) -> list[int]:
    """The place of each term asked for that some document has; one that is asked for twice comes twice."""
    hashes = np.frombuffer(asked, dtype="<u8")
    places = np.minimum(terms.searchsorted(hashes), len(terms) - 1)
    found: list[int] = places[terms[places] == hashes].tolist()
    return found
