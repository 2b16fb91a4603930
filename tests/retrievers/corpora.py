"""Random corpora for property tests: dates of mixed granularity, undated documents, texts that repeat."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from prlm_cli.core.dates import parse_period
from prlm_cli.core.history import Entry, History
from prlm_cli.core.records import Document, Query
from prlm_cli.core.terms import fingerprint_of, tokenizer
from prlm_cli.retrievers.eligible import Eligible

ENGLISH = tokenizer("english")
_START = datetime(1969, 12, 30, tzinfo=UTC)  # instants on both sides of the epoch
_MOMENTS = st.integers(0, 900).map(lambda hours: _START + timedelta(hours=hours))
DATES: st.SearchStrategy[Any] = st.one_of(
    st.builds(lambda moment, width: moment.isoformat()[:width], _MOMENTS, st.sampled_from([4, 7, 10, 10, 16, 25])),
    _MOMENTS.map(datetime.timestamp),
)
_WORDS = ["parse", "parsing", "tree", "trees", "grammar", "speech", "noise", "the", "of", "x"]
TEXTS = st.lists(st.sampled_from(_WORDS), max_size=8).map(" ".join)


@st.composite
def documents(draw: st.DrawFn, user_id: str = "u", max_size: int = 8) -> list[Document]:
    """One user's documents: all dated, none dated, or some."""
    dates = draw(st.sampled_from([DATES, st.none(), DATES | st.none()]))
    return [
        Document(
            user_id=user_id,
            doc_id=doc_id,
            text=draw(TEXTS) or "empty",
            title=draw(st.none() | st.just("") | TEXTS),
            date=draw(dates),
        )
        for doc_id in draw(st.lists(st.sampled_from("abcdefghij"), max_size=max_size, unique=True))
    ]


@st.composite
def interleaved(draw: st.DrawFn, histories: dict[str, list[Document]]) -> list[Document]:
    """All documents of some users, the users interleaved, each user's in order."""
    turns = draw(st.permutations([user for user, own in histories.items() for _ in own]))
    left = {user: iter(own) for user, own in histories.items()}
    return [next(left[user]) for user in turns]


@st.composite
def queries(draw: st.DrawFn, own: list[Document], user_id: str = "u") -> Query:
    """A query of that user; often made from one of the documents, or with a text of theirs."""
    source = draw(st.sampled_from(own)) if own and draw(st.booleans()) else None
    text = (
        source.text if source and draw(st.booleans()) else draw(TEXTS | st.sampled_from([d.text for d in own] or ["x"]))
    )
    date = source.date if source and draw(st.booleans()) else draw(st.none() | DATES)
    source_id = source.doc_id if source else draw(st.none() | st.just("gone"))
    return Query(query_id=draw(st.text(max_size=3)), user_id=user_id, text=text, date=date, source_doc_id=source_id)


def history(own: list[Document], user_id: str = "u") -> History:
    """What retrieval reads of the documents, which came in in this order."""
    entries = [
        Entry(
            rid,
            None if document.date is None else parse_period(document.date).end,
            fingerprint_of(document.text),
            ENGLISH.terms(f"{document.title or ''}\n{document.text}").tobytes(),
        )
        for rid, document in enumerate(own)
    ]
    return History(user_id, entries, lambda: {rid: document.doc_id for rid, document in enumerate(own)})


def everything(own: History) -> Eligible:
    """All of a history."""
    return Eligible(range(len(own)), frozenset())


class Unstored:
    """What a retriever needs of a store, for histories that are in none."""

    tokenizer = ENGLISH


def is_forbidden(query: Query, own: list[Document], doc_id: str, *, keep_undated: bool = False) -> bool:
    """Whether a query may not see a document, said apart from the program: as sentences about the documents."""
    position, document = next((n, d) for n, d in enumerate(own) if d.doc_id == doc_id)
    if document.doc_id == query.source_doc_id or document.text.split() == query.text.split():
        return True
    if all(other.date is None for other in own):
        sources = [n for n, other in enumerate(own) if other.doc_id == query.source_doc_id]
        return bool(sources) and position > sources[0]
    if query.date is None:
        return False
    if document.date is None:
        return not keep_undated
    return not parse_period(document.date).end < parse_period(query.date).start


def in_new_store(folder: Path, own: list[Document]) -> Any:
    """An open store with the documents in it."""
    from prlm_cli.core.store import Store

    store = Store(folder / "index.sqlite", create=True)
    store.add_documents(own)
    return store
