"""Which of a user's documents a query may see: strictly older ones, and never its own source."""

from __future__ import annotations

from collections.abc import Sequence

from prlm_cli.core import terms
from prlm_cli.core.dates import parse_period
from prlm_cli.core.records import Query
from prlm_cli.core.store import Entry


def eligible(query: Query, entries: Sequence[Entry], *, keep_undated: bool = False) -> list[Entry]:
    """The entries that the query may see.

    A document counts as older if the whole period of its date lies before the first instant of the query's. Where no
    document has a date, a query made from one sees those before it in the order of the input. A document with the
    query's own text is taken for its source.

    Args:
        query: The query; without a date it sees all dates.
        entries: All of its user's entries, in the order they came in.
        keep_undated: Whether a query with a date sees documents without one, where others have dates.
    """
    source = query.source_doc_id
    own_text = terms.fingerprint_of(query.text)
    others = [entry for entry in entries if entry.doc_id != source and entry.fingerprint != own_text]
    if all(entry.until is None for entry in entries):
        origin = next((entry.rid for entry in entries if entry.doc_id == source), None)
        return [entry for entry in others if origin is None or entry.rid < origin]
    if query.date is None:
        return others
    start = parse_period(query.date).start
    return [e for e in others if (keep_undated if e.until is None else e.until < start)]
