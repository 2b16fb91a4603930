from __future__ import annotations

import pytest

from prlm_cli.core.prompts import PromptBuilder
from prlm_cli.core.records import Retrieved
from prlm_cli.rewards import RewardContext
from prlm_cli.rewards.overlap import Overlap
from prlm_cli.tasks import TASKS
from tests.core.codecs import ByteCodec


def _reward(completions, targets, *, reasoning=False):
    builder = PromptBuilder(TASKS["titles"], "completion", reasoning, 500, ByteCodec())
    queries = [
        Retrieved(query_id=str(n), user_id="u", text="x", target=t, profile=[], retriever="bm25")
        for n, t in enumerate(targets)
    ]
    return Overlap(RewardContext(builder))(completions=completions, queries=queries)


@pytest.mark.parametrize(
    ("completion", "target", "expected"),
    [
        (" Deep parsing of trees", "Deep parsing of trees", 3.0),
        (" deep PARSING of trees", "Deep parsing of trees", 3.0),
        (" nothing shared", "Deep parsing of trees", 0.0),
        (" deep trees", "deep parsing trees", 0.8 + 0.0 + 0.8),  # 2 of 2 and 2 of 3 words, no pair of neighbours
        (" deep parsing", "deep parsing trees", 0.8 + 2 / 3 + 0.8),
        (" trees deep", "deep trees", 1.0 + 0.0 + 0.5),
        ("", "Deep parsing", 0.0),
        (" " + "word " * 65, "word", 0.0),  # too long to be an answer
        (" anything", None, None),
        (" anything", "", 0.0),
    ],
)
def test_the_overlap_of_an_answer(completion, target, expected):
    assert _reward([completion], [target]) == [None if expected is None else pytest.approx(expected)]


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        ("why\n</think>\nTitle: Deep parsing", 3.0),
        ("Deep parsing", 0.0),  # a thought that is never closed has no answer
        ("Deep parsing\n</think>\n", 0.0),  # what stands in the thought does not count
    ],
)
def test_only_the_answer_after_the_thought_counts(completion, expected):
    assert _reward([completion], ["Deep parsing"], reasoning=True) == [pytest.approx(expected)]


def test_rewards_come_in_the_order_of_the_completions():
    assert _reward([" a b", " c d", " e"], ["c d", "c d", None]) == [0.0, pytest.approx(3.0), None]
