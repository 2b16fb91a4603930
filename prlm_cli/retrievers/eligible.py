"""Which of a user's documents a query may see: strictly older ones, and never its own source."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterator

import msgspec

from prlm_cli.core import terms
from prlm_cli.core.dates import parse_period
from prlm_cli.core.history import History
from prlm_cli.core.records import Query
from prlm_cli.core.settings import RetrievalSettings


class Eligible(msgspec.Struct, frozen=True):
    """Positions in a history: a stretch of it, but for some that are hidden."""

    span: range
    hidden: frozenset[int]

    def __len__(self) -> int:
        return len(self.span) - len(self.hidden)

    def __iter__(self) -> Iterator[int]:
        return (n for n in self.span if n not in self.hidden) if self.hidden else iter(self.span)


def eligible(
    query: Query, history: History, settings: RetrievalSettings, *, among: Collection[int] | None = None
) -> Eligible:
    """The documents that the query may see.

    A document counts as older if the whole period of its date lies before the first instant of the query's. Where no
    document has a date, a query made from one sees those before it in the order of the input. A document with the
    query's own text is taken for its source. A query that came with a history of its own (`doc_ids`) sees nothing else,
    and of that what is undated, too.

    Args:
        query: The query; without a date it sees all dates.
        history: All of its user's documents.
        settings: Which other dates to leave out, and whether a query with a date sees documents without one.
        among: Only these positions, where given.
    """
    hidden = set(history.positions_of_text(terms.fingerprint_of(query.text)))
    source = None if query.source_doc_id is None else history.positions.get(query.source_doc_id)
    if source is not None:
        hidden.add(source)
    span, too_old = _by_date(query, source, history, settings)
    hidden.update(too_old)
    own = None if query.doc_ids is None else {history.positions.get(doc_id) for doc_id in query.doc_ids}
    for chosen in (own, among):
        if chosen is not None:
            hidden.update(n for n in span if n not in chosen)
    return Eligible(span, frozenset(n for n in hidden if n in span))


def end_of_sight(query: Query, settings: RetrievalSettings) -> int | None:
    """The instant by which a document's date must be over; None where there is none."""
    return min((parse_period(date).start for date in (query.date, settings.as_of) if date is not None), default=None)


def _by_date(query: Query, source: int | None, history: History, settings: RetrievalSettings) -> tuple[range, range]:
    """The stretch that dates allow, and what of it is older than `since`."""
    undated, untils, since = history.undated, history.untils, settings.since
    if not untils and since is None:
        return range(len(history) if source is None else source), range(0)
    end = end_of_sight(query, settings)
    stop = undated + (len(untils) if end is None else bisect_left(untils, end))
    first = undated + (0 if since is None else bisect_left(untils, parse_period(since).start))
    is_open = end is None and since is None
    if is_open or settings.undated == "keep" or query.doc_ids is not None:
        return range(stop), range(undated, first)
    return range(first, max(first, stop)), range(0)
