from __future__ import annotations

import pytest

from prlm_cli.core.errors import SettingsError
from prlm_cli.core.prompts import PromptBuilder
from prlm_cli.core.records import ProfileDocument, Retrieved
from prlm_cli.rewards import REWARDS, RewardContext
from prlm_cli.rewards.format import Format
from prlm_cli.rewards.overlap import Overlap
from prlm_cli.rewards.personalization import Personalization
from prlm_cli.tasks import TASKS
from tests.core.codecs import ByteCodec

_BUILDER = PromptBuilder(TASKS["titles"], "completion", True, 500, ByteCodec())


def _judged_by(judge):
    return Personalization(RewardContext(_BUILDER, judge))


class Judge:
    """A reward model that keeps what it was asked."""

    def __init__(self):
        self.asked = []

    def rewards(self, items):
        self.asked += items
        return [len(answer) / 100 for _, _, answer in items]


def _query(n):
    profile = [ProfileDocument(doc_id="1", text=f"text of {n}", title=f"title of {n}")]
    return Retrieved(query_id=str(n), user_id="u", text=f"query {n}", profile=profile, retriever="bm25")


def test_each_answer_is_judged_with_its_own_query_and_records():
    judge, queries = Judge(), [_query(1), _query(2), _query(3)]
    completions = ["a</think>Title: Trees", "never closed", "b</think>Title: Bark!"]

    found = _judged_by(judge)(completions=completions, queries=queries)

    assert found == [0.05, 0.0, 0.05]  # no answer can be read from the second
    assert judge.asked == [(q.text, q.profile, a) for q, a in ((queries[0], "Trees"), (queries[2], "Bark!"))]


def test_the_thought_is_not_judged():
    judge = Judge()

    _judged_by(judge)(completions=["text of 1, title of 1</think>Trees"], queries=[_query(1)])

    assert [answer for _, _, answer in judge.asked] == ["Trees"]


def test_where_no_answer_can_be_read_nothing_is_judged():
    judge = Judge()

    assert _judged_by(judge)(completions=["a", "b"], queries=[_query(1)] * 2) == [
        0.0,
        0.0,
    ]
    assert judge.asked == []


def test_without_a_reward_model_it_cannot_be_used():
    with pytest.raises(SettingsError, match=r"needs a reward model; run `prlm train-reward` first"):
        Personalization(RewardContext(_BUILDER))


@pytest.mark.parametrize(
    ("name", "kind"), [("overlap", Overlap), ("format", Format), ("personalization", Personalization)]
)
def test_every_reward_has_a_name(name, kind):
    assert isinstance(REWARDS[name](RewardContext(_BUILDER, Judge())), kind)


def test_a_reward_that_is_not_there_is_an_error_that_names_the_others():
    with pytest.raises(SettingsError, match="did you mean overlap"):
        REWARDS["overlapp"]
