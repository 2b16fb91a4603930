from __future__ import annotations

import pytest
import torch

from prlm_cli.core.errors import StorageError
from prlm_cli.models.echo import EchoRule
from prlm_cli.models.reward_model import RewardModel
from prlm_cli.models.with_echo import WithEcho, with_saved_echo
from tests.models.test_causal_network import ITEMS, _new


@pytest.fixture
def networks(tiny_model):
    """A network, and the same that starts from the rule."""
    alone = _new(tiny_model)
    return alone, WithEcho(alone, 3.0)


def test_the_score_is_the_networks_and_the_weighted_echo(networks):
    alone, network = networks
    expected = [
        score + 3.0 * rule
        for score, rule in zip(
            RewardModel(alone, sees_profile=True).scores(ITEMS), EchoRule().scores(ITEMS), strict=True
        )
    ]

    assert RewardModel(network, sees_profile=True).scores(ITEMS) == pytest.approx(expected, abs=1e-6)
    assert len(set(EchoRule().scores(ITEMS))) > 2


def test_only_the_network_is_trained_and_its_gradient_is_the_same(networks):
    alone, network = networks
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]

    def gradient(scored):
        for parameter in trained:
            parameter.grad = None
        scored(network.encode(ITEMS)).sum().backward()
        return torch.cat([parameter.grad.flatten() for parameter in trained if parameter.grad is not None])

    assert torch.equal(gradient(network), gradient(alone))
    assert {id(parameter) for parameter in network.parameters()} == {id(parameter) for parameter in alone.parameters()}


def test_what_is_saved_scores_the_same_when_it_is_loaded(networks, tiny_model, tmp_path):
    _, network = networks
    network.save(tmp_path)
    restored = WithEcho(_new(tiny_model, seed=1), 3.0)
    restored.restore(tmp_path)
    loaded = with_saved_echo(_new(tiny_model, seed=1), tmp_path)

    scores = RewardModel(network, sees_profile=True).scores(ITEMS)
    assert RewardModel(restored, sees_profile=True).scores(ITEMS) == pytest.approx(scores, abs=1e-6)
    assert loaded.weight == 3.0


def test_a_network_without_a_saved_echo_stays_as_it_is(networks, tmp_path):
    alone, network = networks
    alone.save(tmp_path)

    assert with_saved_echo(alone, tmp_path) is alone

    network.save(tmp_path)
    (tmp_path / "echo.json").write_text('{"weight": "much"}')
    with pytest.raises(StorageError, match=r"echo\.json cannot be read; train"):
        with_saved_echo(alone, tmp_path)
