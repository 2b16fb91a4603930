"""What holds for every reward; the table is REWARDS, so a new one is tested at once."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prlm_cli.core.prompts import PromptBuilder
from prlm_cli.core.records import ProfileDocument, Retrieved
from prlm_cli.rewards import REWARDS, RewardContext, Titles
from prlm_cli.rewards.named import reward_named
from prlm_cli.tasks import TASKS
from tests.core.codecs import ByteCodec


class _Judge:
    def rewards(self, items):
        return [1 / (1 + len(answer)) for _, _, answer in items]


_TITLES = Titles(["net: fix a leak", "net: add a test", "net: drop it", "app: go"], ["Deep Parsing", "What is it?"])
_CONTEXT = RewardContext(
    PromptBuilder(TASKS["titles"], "completion", False, 300, ByteCodec()),
    _Judge(),
    lambda query: _TITLES,
    lambda query: None if query.query_id == "q" else "a b",
    max_new_tokens=10,
)
_PENALTIES = {"contrast", "copy", "overlong"}
_TEXTS = st.text("ab <>,?\n", max_size=12)
_QUERIES = st.builds(
    Retrieved,
    query_id=st.sampled_from("qrs"),
    user_id=st.just("u"),
    text=st.just("t"),
    target=st.none() | _TEXTS,
    profile=st.lists(
        st.builds(ProfileDocument, doc_id=st.just("d"), text=st.just("x"), title=st.none() | _TEXTS), max_size=3
    ),
    retriever=st.just("bm25"),
)
_NAMES = [*REWARDS, "metric:rougeL", "metric:copy_rate", "metric:style"]


@pytest.mark.parametrize("name", _NAMES)
@settings(max_examples=20)
@given(rows=st.lists(st.tuples(_TEXTS, _QUERIES), max_size=6), random=st.randoms(use_true_random=False))
def test_a_reward_keeps_length_and_order_and_is_finite_or_none(name, rows, random):
    reward = reward_named(name)(_CONTEXT)

    def scored(some):
        return reward(completions=[text for text, _ in some], queries=[query for _, query in some])

    found, order = scored(rows), random.sample(range(len(rows)), len(rows))

    assert len(found) == len(rows)
    sign = -1 if name in _PENALTIES else 1
    assert all(value is None or (math.isfinite(value) and 0 <= sign * value <= 3) for value in found)
    assert scored([rows[n] for n in order]) == [found[n] for n in order]
