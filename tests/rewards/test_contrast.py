from __future__ import annotations

import pytest

from prlm_cli.core.errors import SettingsError
from prlm_cli.core.prompts import PromptBuilder
from prlm_cli.core.records import Retrieved
from prlm_cli.rewards import REWARDS, RewardContext
from prlm_cli.rewards.overlap import Overlap
from prlm_cli.tasks import TASKS
from tests.core.codecs import ByteCodec

_BUILDER = PromptBuilder(TASKS["titles"], "completion", False, 500, ByteCodec())
_OWN, _OTHER = "net: fix the leak", "Fix the crash"


def _query(target=_OWN):
    return Retrieved(query_id="q", user_id="u", text="x", target=target, profile=[], retriever="bm25")


def _contrast(completions, other=_OTHER):
    context = RewardContext(_BUILDER, other_answer=lambda query: other)
    return REWARDS["contrast"](context)(completions=completions, queries=[_query()] * len(completions))


def test_it_is_minus_the_overlap_with_the_other_answer():
    completions = [" Fix the crash", " net: fix the leak", " drop it", ""]
    of_other = Overlap(RewardContext(_BUILDER))(completions=completions, queries=[_query(_OTHER)] * 4)

    assert _contrast(completions) == [-value for value in of_other]
    assert of_other[0] == pytest.approx(3.0)


def test_beside_the_overlap_words_that_anybody_writes_pay_nothing():
    generic, personal = [" fix the"], [" net: leak"]
    own = Overlap(RewardContext(_BUILDER))

    def pay(completions):
        return own(completions=completions, queries=[_query()])[0] + _contrast(completions)[0]

    assert pay(generic) <= 0 < pay(personal)
    assert own(completions=generic, queries=[_query()])[0] > own(completions=personal, queries=[_query()])[0]


def test_it_does_not_apply_where_nobody_else_was_asked_the_like():
    assert _contrast([" anything"], other=None) == [None]


def test_it_needs_other_users_answers():
    with pytest.raises(SettingsError, match=r"needs other users' answers; use `prlm train-policy --contrast swapped`"):
        REWARDS["contrast"](RewardContext(_BUILDER))
