from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prlm_cli.core.errors import StorageError
from prlm_cli.core.prompts import PromptBuilder
from prlm_cli.core.records import ProfileDocument
from prlm_cli.core.settings import ModelSettings
from prlm_cli.models.causal_network import new_causal_network
from prlm_cli.models.loading import load_base, load_tokenizer
from prlm_cli.models.reward_model import (
    RewardModel,
    fit_echo_weight,
    fit_temperature,
    load_temperature,
    save_temperature,
)
from prlm_cli.models.scorer import Item
from prlm_cli.models.tokenization import TokenizerCodec
from prlm_cli.pipeline.pair_scores import Part
from prlm_cli.pipeline.reward_quality import reward_quality
from prlm_cli.tasks import TASKS
from tests.pipeline.scorers import pairs_of


def _profile(*titles):
    return [ProfileDocument(doc_id=str(n), text=f"About {t}.", title=t, rank=n + 1) for n, t in enumerate(titles)]


_ITEMS = [
    Item("We parse.", _profile("Deep parsing"), "Parsing"),
    Item("We parse trees, and then we parse them again.", _profile("Trees", "More trees"), "Parsing trees once more"),
    Item("We listen.", [], "Listening"),
    Item("We listen.", _profile("Deep parsing"), "A"),
]


@pytest.fixture(scope="module")
def reward_model(tiny_model):
    return _reward_model(tiny_model)


def _reward_model(tiny_model, **fields):
    settings = ModelSettings(lora_r=4)
    builder = PromptBuilder(TASKS["titles"], "completion", False, 300, TokenizerCodec(load_tokenizer(tiny_model)))
    network = new_causal_network(load_base(tiny_model, settings), settings, builder, max_answer_tokens=60, seed=0)
    return RewardModel(network, **{"sees_profile": True, **fields})


def test_a_score_does_not_depend_on_what_else_is_in_the_call(reward_model):
    alone = [reward_model.scores([item])[0] for item in _ITEMS]

    assert len({round(score, 6) for score in alone}) == len(_ITEMS)
    assert reward_model.scores(_ITEMS) == pytest.approx(alone, abs=1e-5)
    assert reward_model.scores(_ITEMS[::-1] * 3) == pytest.approx(alone[::-1] * 3, abs=1e-5)


def test_no_items_have_no_scores(reward_model):
    assert reward_model.scores([]) == []


def test_scoring_leaves_the_model_in_the_mode_it_was_in(reward_model):
    for training in (True, False):
        reward_model.network.model.train(training)
        reward_model.scores(_ITEMS[:1])

        assert reward_model.network.model.training == training


@pytest.fixture
def blind(tiny_model, monkeypatch):
    """A model that sees no profile, whose last digits depend on the place in the batch, as they do on a GPU."""
    blind = _reward_model(tiny_model, sees_profile=False)
    forward = blind.network.forward
    monkeypatch.setattr(blind.network, "forward", lambda inputs: forward(inputs) + 1e-6 * torch.arange(len(inputs)))
    return blind


def test_a_model_that_sees_no_profile_gives_equal_inputs_the_very_same_score(blind):
    items = [Item("We parse.", profile, "A") for profile in (_profile("a"), _profile("b", "c"), [])]

    assert len(set(blind.scores([*items, *_ITEMS, *items])[:3])) == 1


def test_the_interaction_of_a_model_that_sees_no_profile_is_exactly_nothing_and_its_gate_closed(blind):
    quality = reward_quality(blind, users=Part(pairs_of(users=3)), queries=Part([]))

    assert (quality.users.model.max_abs_interaction, quality.gate) == (0, "closed")


def test_a_model_that_sees_the_profile_has_an_interaction(reward_model):
    quality = reward_quality(reward_model, users=Part(pairs_of(users=3)), queries=Part([]))

    assert quality.users.model.interaction.overall.n == 12
    assert quality.users.model.max_abs_interaction > 0


def test_a_reward_is_the_sigmoid_of_the_tempered_score(reward_model, monkeypatch):
    monkeypatch.setattr(reward_model, "scores", lambda items: [0.0, 2.0, -2.0, 1e9, -1e9])
    monkeypatch.setattr(reward_model, "temperature", 2.0)

    assert reward_model.rewards([None] * 5) == pytest.approx([0.5, 0.7311, 0.2689, 1, 0], abs=1e-4)


@pytest.mark.parametrize(
    ("margins", "temperature"),
    [
        ([], 1.0),
        ([1e6, 1e6], 0.25),  # bounded, so that the reward is no step
        ([-1.0, -1.0], 16.0),
        ([0.0], 0.25),
        ([3.0, 3.0, 3.0, -3.0], 2**1.5),  # three of four: the best is 3 / log 3 = 2.73
    ],
)
def test_the_temperature_that_makes_the_margins_most_likely(margins, temperature):
    assert fit_temperature(margins) == pytest.approx(temperature)


@pytest.mark.parametrize(
    ("margins", "weight"),
    [
        ([], 0.0),
        ([0.0, 0.0], 0.0),
        ([-0.2, -0.1], 0.0),  # a rule that is wrong is not turned round
        ([0.2, 0.1], 64.0),  # bounded
        ([0.1, 0.1, 0.1, -0.1], 2**3.5),  # three of four: the best is log 3 / 0.1 = 10.99
    ],
)
def test_the_weight_of_the_echo_that_makes_its_margins_most_likely(margins, weight):
    assert fit_echo_weight(margins) == pytest.approx(weight)


@given(st.lists(st.floats(-1e9, 1e9), max_size=20))
def test_every_margin_has_a_temperature(margins):
    assert 0.25 <= fit_temperature(margins) <= 16


def test_the_temperature_is_kept_beside_the_adapter(tmp_path):
    save_temperature(tmp_path, 2**0.25)

    assert load_temperature(tmp_path) == 2**0.25


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"temperature": 0}', '{"temperature": NaN}', '{"temperature": "1"}'])
def test_a_damaged_temperature_is_a_storage_error(tmp_path, text):
    (tmp_path / "temperature.json").write_text(text)

    with pytest.raises(StorageError, match=r"temperature.json cannot be read"):
        load_temperature(tmp_path)
