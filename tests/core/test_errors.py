from __future__ import annotations

import re

import pytest

from prlm_cli.core import errors
from prlm_cli.core.errors import PrlmError, did_you_mean


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes():
    drawn = dict(re.findall(r"(\w+Error)\s+(\d+)", errors.__doc__ or ""))
    kinds = [PrlmError, *PrlmError.__subclasses__()]

    assert drawn == {kind.__name__: str(kind.exit_code) for kind in kinds if kind.__module__ == errors.__name__}


def test_an_error_reads_as_what_is_wrong_then_what_to_do():
    assert str(PrlmError("k is -1", hint="see --help")) == "k is -1; see --help"
    assert str(PrlmError("k is -1")) == "k is -1"


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("reccency", "did you mean recency?"),
        ("BM-25", "known: bm25, none, recency"),
        ("zzz", "known: bm25, none, recency"),
        ("", "known: bm25, none, recency"),
    ],
)
def test_a_hint_names_the_nearest_word_or_all_of_them(word, hint):
    assert did_you_mean(word, ["recency", "bm25", "none"]) == hint
