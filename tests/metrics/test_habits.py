from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prlm_cli.metrics.habits import card, habits, manner


@pytest.mark.parametrize(
    ("titles", "expected"),
    [
        (["net/mlx5: fix leak", "net/i40e: fix crash"], "3 words, lower case, tag and colon first"),
        (["Deep Parsing of Trees", "Wide Trees at Scale"], "4 words, title case"),
        (["Deep parsing of trees", "Wide trees at scale"], "4 words, sentence case"),
        (["BREAKING NEWS NOW", "MORE OF IT"], "3 words, capitals"),
        (["10 Ways to Parse", "7 Trees You Need"], "4 words, title case, number first"),
        (["Why do trees grow?", "What is a tree?"], "4 words, sentence case, question"),
        (["Fixing the parser", "Adding some trees"], "3 words, sentence case, verb in -ing first"),
        (["So good! #trees #bark", "Oh, trees! #bark"], "4 words, sentence case, hashtags"),
        (["parsing (draft)", "trees (final)"], "2 words, lower case, brackets"),
        (["It works.", "It does."], "2 words, sentence case, full stop at the end, opens with It"),
        (["Re: a", "Re: b", "Re: c"], "2 words, sentence case, tag and colon first, opens with Re:"),
        (["one two", "Three Four", "five six"], "2 words, lower case"),
        (["深い構文解析", "木"], "1 words, lower case"),
        (["2024", "1999"], "1 words, lower case, number first"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_the_habits_of_titles(titles, expected):
    assert ", ".join(habits(titles)) == expected


def _card(*titles):
    return card([manner(title) for title in titles])


@pytest.mark.parametrize(
    ("titles", "expected"),
    [
        ([], ""),
        (["net/mlx5: fix leak"], "3 words; lower case; tag and colon first"),
        (["Trees"], "1 word; sentence case"),
        (
            ["net/mlx5: fix leak", "net/mlx5: fix the crash", "doc: add guide"],
            "3 to 4 words; lower case; tag and colon first; opens with net/mlx5:; often says fix, mlx5, net",
        ),
        (["a"] * 2 + ["b c d"] * 6 + ["e f g h i"], "3 words; lower case; opens with b or a; often says b, c, d"),
        (["Was it?", "Is it?"], "2 words; sentence case; question"),
        (["x", "x y", "X", "X Y"], "1 to 2 words; capitals; opens with X or x; often says x, y"),
        (["v" * 21, "v" * 21], "1 word; lower case"),
        (["same one", *(f"unlike{n} other{n}" for n in range(28)), "same two"], "2 words; lower case"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) and value else "",
)
def test_the_card_of_titles(titles, expected):
    assert _card(*titles) == expected


_WORDS = st.sampled_from(["Alpha", "beta", "GAMMA", "net:", "7", "delta?", "the"]) | st.text(max_size=30)
_TITLES = st.lists(_WORDS, max_size=9)


@given(st.lists(_TITLES.map(" ".join), max_size=12), st.randoms())
def test_a_card_is_one_short_line_that_does_not_depend_on_the_order(titles, rng):
    found = _card(*titles)

    assert found == _card(*rng.sample(titles, len(titles)))
    assert len(found.splitlines()) == bool(titles)
    assert len(found) < 400


@given(st.lists(_TITLES.map(" ".join), min_size=1, max_size=12))
def test_no_word_of_one_title_alone_is_in_a_card(titles):
    without = _card(*titles)

    assert "unheard" not in _card(*titles, "Unheard unheard: unheard-of")
    assert "unheard" not in without
