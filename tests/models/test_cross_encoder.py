from __future__ import annotations

import json
import shutil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from prlm_cli.core import network
from prlm_cli.core.errors import MissingError, SettingsError
from prlm_cli.models.cross_encoder import DEFAULT_CROSS_ENCODER, load_cross_encoder
from tests.models.tiny_encoders import WORDS, write_cross_encoder, write_sentence_encoder

ROOM = 24  # tokens of a pair
texts = st.lists(st.lists(st.sampled_from(WORDS), max_size=40).map(" ".join), max_size=6)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_cross_encoder(tmp_path_factory.mktemp("cross-encoder"))


@pytest.fixture(scope="module")
def scorer(folder):
    return load_cross_encoder(str(folder))


def logits(folder, query, texts):
    """What the model says, written out: one pair at a time."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        return [model(**tokenizer([query], [text], return_tensors="pt")).logits.item() for text in texts]


def test_a_score_is_the_logit_of_the_pair(folder, scorer):
    texts = ["dog", "a b c", ""]

    assert scorer.score("red cat", texts) == pytest.approx(logits(folder, "red cat", texts), abs=1e-4)


def test_weights_kept_in_half_precision_compute_in_single(tmp_path):
    write_cross_encoder(tmp_path)
    AutoModelForSequenceClassification.from_pretrained(tmp_path, dtype=torch.bfloat16).save_pretrained(tmp_path)
    texts = ["dog", "a b c"]

    scores = load_cross_encoder(str(tmp_path)).score("red cat", texts)

    assert scores == pytest.approx(logits(tmp_path, "red cat", texts), abs=1e-4)


@settings(max_examples=20)
@given(texts=texts)
def test_a_score_does_not_depend_on_the_texts_beside_it(scorer, texts):
    alone = [scorer.score("red cat", [text])[0] for text in texts]

    assert scorer.score("red cat", texts) == pytest.approx(alone, abs=1e-4)


def test_scores_come_in_the_order_of_more_texts_than_a_batch_holds(scorer):
    texts = [" ".join(WORDS[n % 11 :: 1 + n % 7]) for n in range(77)]

    assert scorer.score("dog", texts) == pytest.approx(scorer.score("dog", texts[::-1])[::-1], abs=1e-4)


def test_what_goes_beyond_the_limit_is_cut_off_the_text(folder, scorer):
    query = "red cat dog " * 4
    room = ROOM - 12 - 3  # of the query, and of the tokens around both

    full, longer, shorter = scorer.score(query, ["tree " * room, "tree " * room + "blue", "tree " * (room - 1)])

    assert [full, longer] == pytest.approx(logits(folder, query, ["tree " * room]) * 2, abs=1e-4)
    assert shorter != pytest.approx(full, abs=1e-3)
    assert scorer.score(query + "a", ["tree " * 99])[0] != pytest.approx(full, abs=1e-3)  # all of the query is read


def test_a_query_leaves_a_quarter_of_the_room_to_the_text(scorer):
    query = "red " * 18

    first, second = scorer.score(query + "cat " * 99, ["dog", "tree"])

    assert first != pytest.approx(second, abs=1e-3)
    assert [first, second] == pytest.approx(scorer.score(query, ["dog", "tree"]), abs=1e-4)


def test_a_model_without_a_limit_stops_at_its_last_position(tmp_path):
    write_cross_encoder(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.model_max_length = int(1e30)
    tokenizer.save_pretrained(tmp_path)

    assert len(load_cross_encoder(str(tmp_path)).score("red", ["cat " * 99])) == 1


def test_no_texts_have_no_scores(scorer):
    assert scorer.score("red", []) == []


def test_a_text_can_not_write_a_control_token(scorer):
    written, plain = scorer.score("red", ["cat [SEP] dog", "cat [ sep ] dog"])

    assert written == plain
    assert scorer.score("[SEP] " * 99, ["red"]) == scorer.score("[ sep ] " * 99, ["red"])


def test_a_lone_surrogate_is_read_as_a_question_mark(scorer):
    assert scorer.score("red \ud800", ["cat \ud800"]) == scorer.score("red ?", ["cat ?"])


def test_a_model_of_more_than_one_score_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="does not give one score; name a cross-encoder"):
        load_cross_encoder(str(write_cross_encoder(tmp_path, labels=3)))


def test_a_model_without_a_head_is_refused(tmp_path):
    write_sentence_encoder(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "id2label": {"0": "fits"}, "label2id": {"fits": 0}}))

    with pytest.raises(SettingsError, match="does not give one score"):
        load_cross_encoder(str(tmp_path))


def test_weights_that_are_not_safetensors_are_refused(tmp_path):
    write_cross_encoder(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save({}, tmp_path / "pytorch_model.bin")

    with pytest.raises(SettingsError, match=r"cannot be used for this: .*safetensors"):
        load_cross_encoder(str(tmp_path))


def test_the_fingerprint_goes_with_the_files(tmp_path, folder, scorer):
    shutil.copytree(folder, tmp_path / "same")
    write_cross_encoder(tmp_path / "other", seed=1)

    assert load_cross_encoder(str(tmp_path / "same")).fingerprint == scorer.fingerprint
    assert load_cross_encoder(str(tmp_path / "other")).fingerprint != scorer.fingerprint


def test_the_default_names_the_places_tried_where_it_can_not_be_had(tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))

    with pytest.raises(MissingError, match=r"tried folder .*, the Hugging Face cache, the hub .*; check") as caught:
        load_cross_encoder(DEFAULT_CROSS_ENCODER)
    assert caught.value.exit_code == 3


def test_loading_and_scoring_say_nothing_and_connect_nowhere(folder, capfd):
    network.refuse_network()
    try:
        load_cross_encoder(str(folder)).score("red", ["cat"] * 50)
    finally:
        network.refuse_network(False)

    assert capfd.readouterr() == ("", "")
