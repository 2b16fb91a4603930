from __future__ import annotations

import pytest
from trl.rewards import get_soft_overlong_punishment

from prlm_cli.core.errors import SettingsError
from prlm_cli.core.prompts import PromptBuilder
from prlm_cli.rewards import REWARDS, RewardContext
from prlm_cli.tasks import TASKS
from tests.core.codecs import ByteCodec

_BUILDER = PromptBuilder(TASKS["titles"], "completion", False, 500, ByteCodec())


def test_only_what_comes_near_the_longest_completion_costs():
    reward = REWARDS["overlong"](RewardContext(_BUILDER, max_new_tokens=10))

    assert reward(completions=["x" * n for n in (0, 8, 9, 10, 12)], queries=[]) == pytest.approx([0, 0, -0.5, -1, -1])


def test_it_is_the_soft_overlong_punishment_of_dapo():
    reward = REWARDS["overlong"](RewardContext(_BUILDER, max_new_tokens=100))
    stock = get_soft_overlong_punishment(max_completion_len=100, soft_punish_cache=20)
    lengths = range(0, 110, 3)

    found = reward(completions=["x" * n for n in lengths], queries=[])

    assert found == pytest.approx(stock(completion_ids=[[1] * n for n in lengths]))


def test_it_has_to_know_how_long_a_completion_may_be():
    with pytest.raises(SettingsError, match=r"the reward 'overlong' needs a longest completion"):
        REWARDS["overlong"](RewardContext(_BUILDER))
