from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import RobertaConfig, RobertaModel

from prlm_cli.core.errors import MissingError
from prlm_cli.metrics import METRICS
from prlm_cli.models import bert_score
from prlm_cli.models.bert_score import LAYER, load_bert_scorer
from tests.metrics.generations import answered
from tests.models.tiny_encoders import VOCABULARY, WORDS, write_cross_encoder

TEXTS = st.lists(st.sampled_from([word for word in WORDS if word.isalpha()]), max_size=6).map(" ".join)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A random RoBERTa with the layers of the large one, with safetensors."""
    folder = write_cross_encoder(tmp_path_factory.mktemp("roberta"))
    torch.manual_seed(0)
    config = RobertaConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=16,
        num_hidden_layers=24,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=66,
        pad_token_id=0,
    )
    RobertaModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def scorer(folder):
    return load_bert_scorer(folder, LAYER)


def _by_hand(scorer, answer, target):
    """The definition, token by token."""

    def vectors(text):
        ids = scorer._tokenizer(text, return_tensors="pt")
        states = scorer._model(**ids, output_hidden_states=True).hidden_states[LAYER][0]
        return [state / state.norm() for state in states]

    with torch.no_grad():
        a, b = vectors(answer), vectors(target)
        precision = sum(max(float(x @ y) for y in b) for x in a[1:-1]) / len(a[1:-1])
        recall = sum(max(float(x @ y) for x in a) for y in b[1:-1]) / len(b[1:-1])
    return precision, recall, 2 * precision * recall / (precision + recall)


@settings(max_examples=20)
@given(answer=TEXTS, target=TEXTS)
def test_the_score_is_that_of_the_definition(scorer, answer, target):
    found = scorer.score(answer, target)

    expected = _by_hand(scorer, answer, target) if answer and target else (0, 0, 0)
    assert found == pytest.approx(expected, abs=1e-5)


def test_the_same_text_scores_one(scorer):
    assert scorer.score("red cat", " red cat ") == pytest.approx((1, 1, 1), abs=1e-5)


@pytest.mark.parametrize("text", ["猫がいる", "\ud800", "red " * 5000, "[SEP] [CLS]"])
def test_nasty_texts_have_a_score(scorer, text):
    assert all(math.isfinite(value) for value in scorer.score(text, "a red cat"))


def test_the_metric_needs_a_target_and_is_0_without_an_answer(folder, monkeypatch):
    monkeypatch.setattr(bert_score, "MODEL", str(folder))
    bertscore = METRICS["bertscore"]

    assert bertscore(answered("red cat", "red cat")) == pytest.approx(1, abs=1e-5)
    assert bertscore(answered(None, "red cat")) == 0.0
    assert bertscore(answered("red cat", None)) is None


def test_without_the_model_the_metric_says_what_it_lacks(monkeypatch):
    monkeypatch.setattr(bert_score, "MODEL", "nobody/no-such-model")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    with pytest.raises(MissingError, match="no model 'nobody/no-such-model'"):
        METRICS["bertscore"](answered("red cat", "red cat"))
