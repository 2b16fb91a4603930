"""What a key of `policy.rewards` stands for."""

from __future__ import annotations

from functools import partial

from prlm_cli.metrics import METRICS
from prlm_cli.rewards import REWARDS, MakeReward

_METRIC = "metric:"


def reward_named(name: str) -> MakeReward:
    """Makes the reward of that name from its context.

    Args:
        name: A name in `REWARDS`; `metric:` and a name in `METRICS`; or "package.module:function" (see `custom`).

    Raises:
        SettingsError: If there is none, or the function is not a reward.
    """
    if name.startswith(_METRIC):
        from prlm_cli.rewards.metric import MetricReward

        return partial(MetricReward, metric=METRICS[name.removeprefix(_METRIC)])
    if ":" in name:
        from prlm_cli.rewards.custom import load_custom

        reward = load_custom(name)
        return lambda context: reward
    return REWARDS[name]
