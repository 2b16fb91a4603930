from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prlm_cli.core.prompts import PromptBuilder
from prlm_cli.core.records import PreferencePair, ProfileDocument
from prlm_cli.core.settings import ModelSettings
from prlm_cli.models.loading import load_base, load_tokenizer
from prlm_cli.models.reward_model import RewardModel, fit_temperature, load_temperature, save_temperature
from prlm_cli.models.tokenization import TokenizerCodec
from prlm_cli.pipeline.train_reward import diagnose
from prlm_cli.tasks import TASKS


def _profile(*titles):
    return [ProfileDocument(doc_id=str(n), text=f"About {t}.", title=t, rank=n + 1) for n, t in enumerate(titles)]


_ITEMS = [
    ("We parse.", _profile("Deep parsing"), "Parsing"),
    ("We parse trees, and then we parse them again.", _profile("Trees", "More trees"), "Parsing trees once more"),
    ("We listen.", [], "Listening"),
    ("We listen.", _profile("Deep parsing"), "A"),
]


@pytest.fixture(scope="module")
def reward_model(tiny_model):
    return _reward_model(tiny_model)


def _reward_model(tiny_model, **fields):
    tokenizer = load_tokenizer(tiny_model)
    torch.manual_seed(0)  # of the head
    base = load_base(tiny_model, ModelSettings(), scores=True)
    builder = PromptBuilder(TASKS["titles"], "completion", False, 300, TokenizerCodec(tokenizer))
    return RewardModel(base, tokenizer, builder, **{"sees_profile": True, **fields})


def test_a_score_does_not_depend_on_what_else_is_in_the_batch(reward_model):
    alone = [reward_model.scores([item])[0] for item in _ITEMS]

    assert len({round(score, 6) for score in alone}) == len(_ITEMS)
    for batch_size in (1, 2, 3, 16):
        assert reward_model.scores(_ITEMS, batch_size=batch_size) == pytest.approx(alone, abs=1e-4)
    assert reward_model.scores(_ITEMS[::-1]) == pytest.approx(alone[::-1], abs=1e-4)


def test_no_items_have_no_scores(reward_model):
    assert reward_model.scores([]) == []


def test_scoring_leaves_the_model_in_the_mode_it_was_in(reward_model):
    for training in (True, False):
        reward_model.model.train(training)
        reward_model.scores(_ITEMS[:1])

        assert reward_model.model.training == training


def test_what_is_scored_is_the_prompt_and_the_answer_without_an_end(reward_model):
    ids = reward_model.encode("We parse.", _profile("Deep parsing"), "Parsing")

    assert reward_model.tokenizer.decode(ids) == (
        "Text: About Deep parsing.\nTitle: Deep parsing\n\nText: We parse.\nTitle: Parsing"
    )


def test_control_tokens_in_an_answer_do_not_move_the_end(reward_model):
    ids = reward_model.encode("We parse.", [], "Parsing<|im_end|>")

    assert reward_model.tokenizer.eos_token_id not in ids


@pytest.fixture
def blind(tiny_model, monkeypatch):
    """A model that sees no profile, whose last digits depend on the place in the batch, as they do on a GPU."""
    blind = _reward_model(tiny_model, sees_profile=False)
    forward = blind.model.forward

    def rounded(**inputs):
        output = forward(**inputs)
        output.logits += 1e-6 * torch.arange(len(output.logits))[:, None]
        return output

    monkeypatch.setattr(blind.model, "forward", rounded)
    return blind


def test_a_model_that_sees_no_profile_gives_equal_inputs_the_very_same_score(blind):
    items = [("We parse.", profile, "A") for profile in (_profile("a"), _profile("b", "c"), [])]

    assert len(set(blind.scores(items, batch_size=2))) == 1


def _pairs(kinds=("swapped",)):
    return [
        PreferencePair(
            query_id=f"q{n}",
            user_id=f"u{n}",
            kind=kind,
            text="We parse.",
            profile=_profile("Deep parsing"),
            chosen=f"Parsing {'again ' * n}",
            rejected=f"Listening {n}",
            swapped_user_id="v" if kind == "swapped" else None,
            swapped_profile=_profile("Speech") if kind == "swapped" else [],
        )
        for n in range(4)
        for kind in kinds
    ]


def test_the_interaction_of_a_model_that_sees_no_profile_is_exactly_nothing_and_its_gate_closed(blind):
    metrics, _ = diagnose(blind, _pairs(["swapped", "zero_shot"]))

    assert (metrics["interaction"]["mean"], metrics["gate"]) == (0, "closed")


def test_a_model_that_sees_the_profile_has_an_interaction(reward_model):
    metrics, _ = diagnose(reward_model, _pairs())

    assert metrics["interaction"]["n"] == 4
    assert set(metrics["accuracy"]) == {"swapped"}


class Table:
    """A reward model whose scores stand in a function."""

    def __init__(self, score):
        self._score = score

    def scores(self, items):
        asked = [(profile[0].title == "Deep parsing", answer.startswith("Parsing")) for _, profile, answer in items]
        return [self._score(own, chosen) for own, chosen in asked]


@pytest.mark.parametrize(
    ("score", "gate"),
    [
        (lambda own, chosen: float(own == chosen), "open"),
        (lambda own, chosen: 2.0 * own + 3.0 * chosen, "closed"),
        (lambda own, chosen: float(own != chosen), "closed"),
    ],
    ids=["fit of profile and answer", "good answers and good profiles only", "the wrong way round"],
)
def test_the_gate_opens_for_the_fit_of_profile_and_answer_alone(score, gate):
    metrics, margins = diagnose(Table(score), _pairs())

    assert metrics["gate"] == gate
    assert margins == [score(True, True) - score(True, False)] * 4


def test_without_swapped_pairs_the_gate_stays_closed():
    table = Table(lambda own, chosen: float(chosen))

    metrics, _ = diagnose(table, _pairs(["zero_shot"]))

    assert (metrics["interaction"], metrics["gate"], list(metrics["accuracy"])) == (None, "closed", ["zero_shot"])


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


@given(st.lists(st.floats(-1e9, 1e9), max_size=20))
def test_every_margin_has_a_temperature(margins):
    assert 0.25 <= fit_temperature(margins) <= 16


def test_the_temperature_is_kept_beside_the_adapter(tmp_path):
    save_temperature(tmp_path, 2**0.25)

    assert load_temperature(tmp_path) == 2**0.25
