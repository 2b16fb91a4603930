from __future__ import annotations

import re
from html import unescape

from hypothesis import given
from hypothesis import strategies as st

from prlm_cli.report.diff import differences, unlike

_TEXTS = st.text(alphabet="ab <&.é漢\n", max_size=20)


def _plain(marked):
    return unescape(re.sub(r"</?(ins|del|mark)>", "", marked))


def test_words_that_only_one_has_are_marked():
    a, b = differences("fix the small leak", "fix a leak")

    assert a == "fix <ins>the small</ins> leak"
    assert b == "fix <del>a</del> leak"


def test_the_same_text_has_no_marks_and_case_is_a_difference():
    assert differences("Fix it", "Fix it") == ("Fix it", "Fix it")
    assert differences("Fix it", "fix it") == ("<ins>Fix</ins> it", "<del>fix</del> it")


def test_words_unlike_the_target_are_marked_wherever_they_stand():
    assert unlike("Leak: the fix", "fix a leak") == "Leak<mark>:</mark> <mark>the</mark> fix"


@given(_TEXTS, _TEXTS)
def test_marks_change_no_character_of_the_texts(a, b):
    assert [_plain(marked) for marked in differences(a, b)] == [a, b]
    assert _plain(unlike(a, b)) == a


@given(_TEXTS, _TEXTS)
def test_what_is_not_marked_is_the_same_in_both(a, b):
    kept = [re.sub(r"<(ins|del)>.*?</\1>", "", marked, flags=re.DOTALL) for marked in differences(a, b)]

    assert kept[0] == kept[1]


def test_texts_too_long_to_compare_come_back_without_marks():
    a, b = "word <b> " * 2000, "other " * 2000

    assert [_plain(marked) for marked in differences(a, b)] == [a, b]
    assert "<ins>" not in differences(a, b)[0] + differences(a, b)[1]
