from __future__ import annotations

from array import array

from hypothesis import given, settings
from hypothesis import strategies as st

from prlm_cli.core.history import Entry, History

_ENTRIES = st.lists(
    st.builds(
        lambda rid, until, text, terms: Entry(rid, until, bytes([text]) * 8, array("Q", sorted(terms)).tobytes()),
        st.integers(1, 50),
        st.none() | st.integers(-3, 3) | st.sampled_from([-(10**15), 10**15]),
        st.integers(0, 2),
        st.lists(st.integers(0, 2**64 - 1), max_size=4),
    ),
    max_size=8,
    unique_by=lambda entry: entry.rid,
)


class _Ids:
    """Reads ids, and counts how often."""

    def __init__(self) -> None:
        self.reads = 0

    def __call__(self) -> dict[int, str]:
        self.reads += 1
        return {rid: f"id of {rid}" for rid in range(60)}


@settings(max_examples=100)
@given(_ENTRIES, st.randoms())
def test_entries_go_by_date_and_then_as_they_came_in_undated_ones_first(entries, choose):
    undated = sorted(entry.rid for entry in entries if entry.until is None)
    dated = sorted((entry.until, entry.rid) for entry in entries if entry.until is not None)
    shuffled = choose.sample(entries, len(entries))
    history = History("u", shuffled)

    assert [entry.rid for entry in history.entries] == undated + [rid for _, rid in dated]
    assert history.untils == [until for until, _ in dated]
    assert history.undated == len(undated)
    assert len(history) == len(entries)
    assert history.size == sum(len(entry.terms) for entry in entries)


@settings(max_examples=50)
@given(_ENTRIES)
def test_positions_are_those_of_the_entries_by_id_and_by_text(entries):
    history = History("u", entries, _Ids())

    assert history.doc_ids == [f"id of {entry.rid}" for entry in history.entries]
    assert [history.doc_ids[position] for position in history.positions.values()] == list(history.positions)
    for text in {b"no text of theirs", *(entry.fingerprint for entry in entries)}:
        expected = [n for n, entry in enumerate(history.entries) if entry.fingerprint == text]
        assert history.positions_of_text(text) == expected


def test_ids_are_read_only_where_they_are_asked_for_and_once():
    ids = _Ids()
    history = History("u", [Entry(1, None, b"", b""), Entry(2, 5, b"", b"")], ids)
    assert (history.size, history.untils, history.positions_of_text(b""), ids.reads) == (0, [5], [0, 1], 0)
    assert (history.doc_ids, history.positions, history.doc_ids, ids.reads) == (
        ["id of 1", "id of 2"],
        {"id of 1": 0, "id of 2": 1},
        ["id of 1", "id of 2"],
        1,
    )


def test_terms_are_the_numbers_behind_the_bytes():
    terms = array("Q", [0, 7, 7, 2**64 - 1])

    assert Entry(1, None, b"", terms.tobytes()).terms == terms
    assert Entry(1, None, b"", b"").terms == array("Q")


def test_nobody_has_an_empty_history():
    history = History("nobody", [])

    assert len(history) == history.size == history.undated == 0
    assert history.untils == history.doc_ids == []
    assert history.positions_of_text(b"") == []
    assert history.positions == history.derived == {}
