from __future__ import annotations

import json
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prlm_cli.core.terms import fingerprint_of
from prlm_cli.pipeline.owned_lines import Owner, lines, rewrite

_SHOWN = {"doc_id": "d1", "text": "old", "title": None, "score": 1.0}
_DOCUMENT = Owner("ada", "d1", frozenset(["q1"]), frozenset([fingerprint_of("My text")]))


def _line(**fields):
    return json.dumps(fields).encode() + b"\n"


@pytest.mark.parametrize(
    ("fields", "owned"),
    [
        ({"user_id": "ada", "text": "t"}, True),
        ({"user_id": "ben", "swapped_user_id": "ada"}, True),
        ({"user_id": "ben", "profile_user_id": "ada"}, True),
        ({"user_id": "ben", "text": "I know ada", "meta": {"user_id": "ada"}}, False),
        ({"user_id": "Ada"}, False),
        ({"user_id": "ben", "profile_user_id": None}, False),
        ({"step": 1, "loss": 0.5}, None),
        ({"user_id": None}, None),
        ({"user_id": 3}, None),
    ],
    ids=str,
)
def test_a_line_is_a_users_if_it_says_so(fields, owned):
    assert Owner("ada").owns(_line(**fields)) is owned


@pytest.mark.parametrize(
    ("fields", "owned"),
    [
        ({"user_id": "ada", "doc_id": "d1"}, True),
        ({"user_id": "ada", "doc_id": "d2"}, False),
        ({"user_id": "ben", "doc_id": "d1"}, False),
        ({"user_id": "ada", "source_doc_id": "d1"}, True),
        ({"user_id": "ada", "query_id": "q1"}, True),
        ({"user_id": "ben", "query_id": "q1"}, False),
        ({"user_id": "ada", "text": " My  text"}, True),
        ({"user_id": "ben", "text": "My text"}, False),
        ({"user_id": "ada", "profile": [{"doc_id": "d3"}, _SHOWN]}, True),
        ({"user_id": "ada", "profile": [{**_SHOWN, "corpus": "shared"}]}, False),
        ({"user_id": "ben", "profile": [_SHOWN]}, False),
        ({"user_id": "ben", "profile": [_SHOWN], "profile_user_id": "ada"}, True),
        ({"user_id": "ada", "profile": [_SHOWN], "profile_user_id": "ben"}, False),
        ({"user_id": "ben", "profile": [_SHOWN], "swapped_user_id": "ada", "swapped_profile": [_SHOWN]}, True),
        ({"user_id": "ada", "profile": [], "swapped_user_id": "ben", "swapped_profile": [_SHOWN]}, False),
        ({"user_id": "ada", "profile": [], "card": "2 words"}, True),
        ({"user_id": "ada", "profile": [], "card": True}, True),
        ({"user_id": "ada", "profile": [], "card": ""}, False),
        ({"user_id": "ben", "profile": [], "card": "2 words"}, False),
        ({"user_id": "ada", "profile": [], "card": "2 words", "profile_user_id": "ben"}, False),
        ({"user_id": "ben", "profile": [], "card": "2 words", "profile_user_id": "ada"}, True),
        ({"user_id": "ben", "swapped_user_id": "ada", "swapped_query_id": "q1"}, True),
        ({"user_id": "ben", "swapped_user_id": "ada", "swapped_query_id": "q2"}, False),
        ({"user_id": "ada", "swapped_user_id": "ben", "swapped_query_id": "q1"}, False),
        ({"step": 1}, None),
    ],
    ids=str,
)
def test_a_line_is_a_documents_if_it_was_made_from_it_or_shows_it_as_its_users(fields, owned):
    assert _DOCUMENT.owns(_line(**fields)) is owned


@given(st.binary() | st.just(b"[" * 100_000) | st.just(b'{"x": ' * 100_000))
def test_no_bytes_are_an_error(line):
    assert Owner("ada").owns(line) is None


def test_a_file_loses_the_lines_that_go_and_no_other_byte(tmp_path):
    path = tmp_path / "records.jsonl"
    kept = [_line(user_id="ben", text="é"), b"\n", b"half a li"]
    path.write_bytes(kept[0] + _line(user_id="ada") + kept[1] + _line(user_id="ada", text="x") + kept[2])

    rewrite(path, lambda line: Owner("ada").owns(line) or False)

    assert list(lines(path)) == kept
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["records.jsonl"]


def test_a_failing_rewrite_leaves_the_file_as_it_was_and_nothing_beside_it(tmp_path):
    path = tmp_path / "records.jsonl"
    path.write_bytes(b"1\n2\n")

    with pytest.raises(ZeroDivisionError):
        rewrite(path, lambda line: 1 // (int(line) - 2) > 5)
    assert path.read_bytes() == b"1\n2\n"
    assert [file.name for file in tmp_path.iterdir()] == ["records.jsonl"]
