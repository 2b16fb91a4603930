from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prlm_cli.training.reward_normalization import Moments, RewardNormalization

NAN = math.nan
# Two groups of three; the second reward does not apply to one completion of the second.
REWARDS = [[1.0, 10.0], [2.0, 20.0], [3.0, 60.0], [5.0, NAN], [5.0, 0.0], [5.0, 10.0]]
_VALUES = st.floats(-100, 100, width=32) | st.just(NAN)


def _normalised(scales, rewards=REWARDS):
    return RewardNormalization(scales, 3)(torch.tensor(rewards)).T.tolist()


def test_none_leaves_a_reward_as_it_is():
    assert _normalised(["none", "none"])[0] == [1.0, 2.0, 3.0, 5.0, 5.0, 5.0]


def test_group_takes_mean_and_deviation_of_each_prompts_completions():
    first, second = _normalised(["group", "group"])

    spread = math.sqrt((20**2 + 10**2 + 30**2) / 2)  # of 10, 20 and 60
    half = math.sqrt(50)  # of 0 and 10
    assert first == pytest.approx([-1, 0, 1, 0, 0, 0], abs=2e-4)
    assert second == pytest.approx(
        [-20 / spread, -10 / spread, 30 / spread, NAN, -5 / half, 5 / half], nan_ok=True, abs=2e-4
    )


def test_batch_takes_those_of_all_completions_of_the_step():
    first, second = _normalised(["batch", "batch"])

    spread = math.sqrt(sum((value - 3.5) ** 2 for value in (1, 2, 3, 5, 5, 5)) / 5)
    other = math.sqrt(sum((value - 20) ** 2 for value in (10, 20, 60, 0, 10)) / 4)
    assert first == pytest.approx([(value - 3.5) / spread for value in (1, 2, 3, 5, 5, 5)], abs=2e-4)
    assert second == pytest.approx([(value - 20) / other for value in (10, 20, 60, NAN, 0, 10)], nan_ok=True, abs=2e-4)


def test_running_takes_those_of_all_steps_so_far():
    normalization = RewardNormalization(["running"], 2)
    normalization(torch.tensor([[0.0], [4.0]]))

    found = normalization(torch.tensor([[2.0], [10.0]])).flatten().tolist()

    spread = math.sqrt((4**2 + 0 + 2**2 + 6**2) / 3)  # of 0, 4, 2 and 10 around 4
    assert found == pytest.approx([-2 / spread, 6 / spread], abs=2e-4)


def test_each_reward_has_its_own_scale():
    none, group = _normalised(["none", "group"])

    assert none == _normalised(["none", "none"])[0]
    assert group == pytest.approx(_normalised(["group", "group"])[1], nan_ok=True)


@pytest.mark.parametrize("scale", ["group", "batch", "running"])
@given(rows=st.lists(st.lists(_VALUES, min_size=2, max_size=2), min_size=1, max_size=3))
def test_what_does_not_apply_stays_so_and_all_else_is_finite(scale, rows):
    rewards = torch.tensor([row for row in rows for _ in range(3)])

    found = RewardNormalization([scale] * 2, 3)(rewards)

    assert torch.equal(found.isnan(), rewards.isnan())
    assert not found.isinf().any()


@given(st.lists(st.lists(_VALUES, min_size=1, max_size=5), min_size=1, max_size=4))
def test_moments_added_batch_by_batch_are_those_of_all_values(batches):
    moments, values = Moments(1), torch.tensor([value for batch in batches for value in batch]).double()
    for batch in batches:
        moments.add(torch.tensor(batch).double()[:, None])
    kept = values[~values.isnan()]

    assert int(moments.count) == len(kept)
    if len(kept):
        assert float(moments.mean) == pytest.approx(float(kept.mean()), abs=1e-6)
    assert float(moments.deviation) == pytest.approx(float(kept.std()) if len(kept) > 1 else 0.0, abs=1e-6)


def test_what_was_saved_goes_on_as_if_unbroken(tmp_path):
    unbroken, broken, resumed = (RewardNormalization(["running", "running"], 3) for _ in range(3))
    for normalization in (unbroken, broken):
        normalization(torch.tensor(REWARDS))
    broken.save(tmp_path)
    resumed.load(tmp_path)

    assert torch.allclose(unbroken(torch.tensor(REWARDS)), resumed(torch.tensor(REWARDS)), equal_nan=True, atol=0)


def test_a_checkpoint_without_moments_begins_anew(tmp_path):
    normalization = RewardNormalization(["running"], 3)

    normalization.load(tmp_path)

    assert normalization(torch.tensor([[1.0], [2.0], [3.0]])).flatten().tolist() == pytest.approx([-1, 0, 1], abs=2e-4)
