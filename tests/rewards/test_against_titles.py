from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prlm_cli.core.prompts import PromptBuilder
from prlm_cli.core.records import ProfileDocument, Retrieved
from prlm_cli.metrics.stylometry import style_match
from prlm_cli.rewards import REWARDS, RewardContext
from prlm_cli.rewards.against_titles import length_match
from prlm_cli.tasks import TASKS
from tests.core.codecs import ByteCodec

_BUILDER = PromptBuilder(TASKS["titles"], "completion", False, 300, ByteCodec())
_TITLES = st.text("ab ,", min_size=1, max_size=20).filter(str.strip)


def _query(*titles, corpus=None):
    marks = {"corpus": corpus} if corpus else {}
    profile = [ProfileDocument(doc_id=str(n), text="x", title=title, **marks) for n, title in enumerate(titles)]
    return Retrieved(query_id="q", user_id="u", text="t", profile=profile, retriever="bm25")


@pytest.mark.parametrize(
    ("answer", "titles", "expected"),
    [
        ("one two", ["a b"], 1.0),
        ("one", ["a b"], 0.5),
        ("one two three four", ["a b"], 0.5),
        ("one two", ["a b", "a b c d"], 0.75),
        ("one two", ["a", "a b c d"], 0.5),
        ("one", ["a"] * 3, 1.0),
    ],
)
def test_the_match_of_lengths_by_hand(answer, titles, expected):
    assert length_match(answer, titles) == pytest.approx(expected)


@given(_TITLES, st.lists(_TITLES, min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_the_match_of_lengths_is_in_its_range_in_any_order(answer, titles, random):
    assert 0 < length_match(answer, titles) <= 1
    assert length_match(answer, random.sample(titles, len(titles))) == length_match(answer, titles)
    assert length_match(titles[0], titles[:1]) == 1.0


@pytest.mark.parametrize("name", ["length", "style"])
def test_it_reads_the_answer_and_passes_over_users_without_titles(name):
    reward = REWARDS[name](RewardContext(_BUILDER))
    queries = [
        _query("deep parsing"),
        _query("deep parsing"),
        _query(None, " "),
        _query(),
        _query("x", corpus="shared"),
    ]

    found = reward(completions=[" deep parsing\n", "", " a", " a", " a"], queries=queries)

    assert found == [1.0, 0.0, None, None, None]


def test_style_is_the_metric_of_that_name():
    titles = ["net: fix a leak", "net: add a test"]

    found = REWARDS["style"](RewardContext(_BUILDER))(completions=[" Why, Oh Why?"], queries=[_query(*titles)])

    assert found == [style_match("Why, Oh Why?", titles)]
