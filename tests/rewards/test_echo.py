from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prlm_cli.core.prompts import PromptBuilder
from prlm_cli.core.records import ProfileDocument, Retrieved
from prlm_cli.metrics.rouge import rouge
from prlm_cli.models.echo import EchoRule, echo
from prlm_cli.models.scorer import Item
from prlm_cli.rewards import REWARDS, RewardContext
from prlm_cli.tasks import TASKS
from tests.core.codecs import ByteCodec


def _profile(*titles):
    return [ProfileDocument(doc_id=str(n), text="a text", title=title) for n, title in enumerate(titles)]


_WORDS = st.text("ab C,-é\n", max_size=12)


@given(_WORDS, st.lists(_WORDS, min_size=1, max_size=4))
def test_the_overlap_is_the_mean_rouge_1_with_the_titles(answer, titles):
    expected = sum(rouge(answer, title).rouge1 for title in titles) / len(titles)

    assert echo(answer, _profile(*titles)) == pytest.approx(expected)


def test_without_records_or_titles_there_is_no_echo():
    untitled = ProfileDocument(doc_id="1", text="parsing", title=None)

    assert EchoRule().scores([Item("q", [], "parsing"), Item("q", [untitled], "parsing")]) == [0, 0]


def test_as_a_reward_it_reads_the_answer_and_passes_over_queries_without_records():
    builder = PromptBuilder(TASKS["titles"], "completion", False, 300, ByteCodec())
    fields = {"query_id": "q", "user_id": "u", "text": "t", "retriever": "bm25"}
    queries = [Retrieved(**fields, profile=profile) for profile in (_profile("deep parsing"), _profile("a"), [])]

    rewards = REWARDS["echo"](RewardContext(builder))(completions=[" parsing\n", " ", " a"], queries=queries)

    assert rewards == [pytest.approx(2 / 3), 0.0, None]
