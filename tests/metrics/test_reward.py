import msgspec

from prlm_cli.metrics.reward import reward
from tests.metrics.test_metrics import BASE


def test_the_reward_is_what_the_reward_model_said():
    assert reward(msgspec.structs.replace(BASE, reward=0.25)) == 0.25


def test_where_no_reward_model_was_asked_there_is_none():
    assert reward(BASE) is None
