from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prlm_cli.core.records import Document, Query
from prlm_cli.core.settings import RetrievalSettings
from prlm_cli.retrievers.eligible import eligible
from tests.retrievers.corpora import documents, history, is_forbidden, queries

_MANY = settings(max_examples=100)


def _seen(query, own, *, among=None, **fields):
    """The ids of the documents that the query sees, in the order they came in."""
    past = history(own)
    found = eligible(query, past, RetrievalSettings(**fields), among=among)
    ids = {past.doc_ids[position] for position in found}
    assert len(found) == len(ids)
    return [document.doc_id for document in own if document.doc_id in ids]


def _undated(keep):
    return "keep" if keep else "drop"


@_MANY
@given(data=st.data(), own=documents(), keep_undated=st.booleans())
def test_a_query_sees_exactly_what_is_strictly_older_and_never_its_source(data, own, keep_undated):
    query = data.draw(queries(own))

    assert _seen(query, own, undated=_undated(keep_undated)) == [
        document.doc_id for document in own if not is_forbidden(query, own, document.doc_id, keep_undated=keep_undated)
    ]


@_MANY
@given(data=st.data(), own=documents())
def test_what_comes_in_later_or_is_dated_later_changes_nothing(data, own):
    query = data.draw(queries(own))
    newer = Document(user_id="u", doc_id="newer", text="parse once more", date="9000" if _are_dated(own) else None)
    before, after = _seen(query, own), _seen(query, [*own, newer])

    if (query.date is not None and _are_dated(own)) or query.source_doc_id in [
        d.doc_id for d in own if not _are_dated(own)
    ]:
        assert before == after


def _are_dated(own):
    return any(document.date is not None for document in own)


def _documents(*dates):
    return [Document(user_id="u", doc_id=f"d{n}", text=f"text {n}", date=date) for n, date in enumerate(dates)]


@pytest.mark.parametrize(
    ("document", "query", "is_seen"),
    [
        ("2024-05-17", "2024-05-17", False),
        ("2024-05-16", "2024-05-17", True),
        ("2024-05-17", "2024-05-17T23:59:59", False),
        ("2024-05-17T10:00", "2024-05-17", False),
        ("2024-05-17T10:00", "2024-05-17T10:00", False),
        ("2024-05-17T09:59:59.999999", "2024-05-17T10:00", True),
        ("2024-05", "2024-05-31", False),
        ("2024-05", "2024-06", True),
        ("2024-05", "2024-06-01", True),
        ("2023", "2024", True),
        ("2024", "2024-12-31", False),
        ("2024-02-29", "2024-03", True),
        ("2024-05-17T01:00+02:00", "2024-05-17", True),
        ("2024-05-16T23:00-02:00", "2024-05-17", False),
        (0, "1970-01-01", False),
        (-1, "1970-01-01", True),
        (-1, 0, True),
        (0, 0.000001, True),
        (0, 0, False),
    ],
)
def test_a_document_is_older_if_its_whole_period_is_over_when_the_query_begins(document, query, is_seen):
    own = _documents(document)

    assert _seen(Query(query_id="q", user_id="u", text="x", date=query), own) == (["d0"] if is_seen else [])
    if isinstance(query, str):
        assert _seen(Query(query_id="q", user_id="u", text="x"), own, as_of=query) == (["d0"] if is_seen else [])


@pytest.mark.parametrize(
    ("dates", "query_date", "source", "keep_undated", "seen"),
    [
        ([None, None, None], None, None, False, [0, 1, 2]),
        ([None, None, None], None, "d1", False, [0]),
        ([None, None, None], "2024", "d1", False, [0]),
        ([None, None, None], "2024", "gone", False, [0, 1, 2]),
        ([None, "2023", "2025"], "2024", None, False, [1]),
        ([None, "2023", "2025"], "2024", None, True, [0, 1]),
        ([None, "2023", "2025"], None, None, False, [0, 1, 2]),
        ([None, "2023", "2025"], "2024", "d1", True, [0]),
        ([], "2024", "d1", True, []),
    ],
)
def test_without_dates_the_order_of_the_input_counts(dates, query_date, source, keep_undated, seen):
    query = Query(query_id="q", user_id="u", text="x", date=query_date, source_doc_id=source)

    assert _seen(query, _documents(*dates), undated=_undated(keep_undated)) == [f"d{n}" for n in seen]


@pytest.mark.parametrize(
    ("text", "is_source"), [("text 0", True), (" text\n0 ", True), ("Text 0", False), ("text", False)]
)
def test_a_document_with_the_text_of_the_query_is_taken_for_its_source(text, is_source):
    query = Query(query_id="q", user_id="u", text=text)

    assert (_seen(query, _documents(None)) == []) == is_source


@pytest.mark.parametrize(
    ("dates", "query_date", "fields", "seen"),
    [
        (["2021", "2022", "2023"], None, {"since": "2022"}, [1, 2]),
        (["2021", "2022", "2023"], "2023", {"since": "2022"}, [1]),
        (["2021-12-31", "2022"], None, {"since": "2022-06"}, [1]),
        (["2021", "2022", "2023"], "2023", {"as_of": "2022"}, [0]),
        (["2021", "2022", "2023"], "2022", {"as_of": "2023"}, [0]),
        ([None, "2021", "2022"], None, {"since": "2022"}, [2]),
        ([None, "2021", "2022"], None, {"since": "2022", "undated": "keep"}, [0, 2]),
        ([None, None], None, {"since": "2022"}, []),
        ([None, None], None, {"since": "2022", "undated": "keep"}, [0, 1]),
        ([None, None], None, {"as_of": "2022"}, [0, 1]),
        (["2021", "2022"], None, {"since": "2030"}, []),
        (["2021", "2022"], "2021", {"since": "2022"}, []),
    ],
)
def test_as_of_and_since_bound_the_dates(dates, query_date, fields, seen):
    query = Query(query_id="q", user_id="u", text="x", date=query_date)

    assert _seen(query, _documents(*dates), **fields) == [f"d{n}" for n in seen]


@pytest.mark.parametrize(
    ("dates", "query_date", "doc_ids", "seen"),
    [
        (["2021", "2022", "2023"], None, ["d2", "d0", "gone"], [0, 2]),
        (["2021", "2022", "2023"], "2023", ["d2", "d0"], [0]),
        ([None, "2022", "2023"], "2023", ["d0", "d1", "d2"], [0, 1]),
        ([None, None], "2023", ["d1"], [1]),
        (["2021"], None, [], []),
    ],
)
def test_a_query_with_a_history_of_its_own_sees_nothing_else(dates, query_date, doc_ids, seen):
    query = Query(query_id="q", user_id="u", text="x", date=query_date, doc_ids=doc_ids)

    assert _seen(query, _documents(*dates)) == [f"d{n}" for n in seen]


def test_only_chosen_positions_are_seen_where_some_are_chosen():
    assert _seen(Query(query_id="q", user_id="u", text="x"), _documents("2021", "2022"), among={1}) == ["d1"]
