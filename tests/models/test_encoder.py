from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModel, AutoTokenizer

from prlm_cli.core import network
from prlm_cli.core.errors import MissingError, PrlmError, SettingsError
from prlm_cli.core.reporting import Silent
from prlm_cli.models.encoder import DEFAULT_ENCODER, load_encoder
from tests.models.tiny_encoders import MAX_TOKENS, WORDS, write_sentence_encoder, write_static_encoder

pytest.importorskip("sentence_transformers", reason="NOT RUN: the extra 'dense' is not installed")
pytest.importorskip("model2vec", reason="NOT RUN: the extra 'dense' is not installed")

WRITERS = {"sentence": write_sentence_encoder, "static": write_static_encoder}
TEXTS = ["red cat", "", "a green tree : [ a dog ]", "blue", "e d c b a " * 9, "cats sing unknown words"]
texts = st.lists(st.lists(st.sampled_from(WORDS), max_size=30).map(" ".join), max_size=8)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoders")
    return {kind: load_encoder(str(write(folder / kind))) for kind, write in WRITERS.items()}


@pytest.fixture(params=WRITERS)
def kind(request):
    return request.param


@pytest.fixture
def encoder(encoders, kind):
    return encoders[kind]


def pooled(folder, texts, *, pooling="mean", max_tokens=MAX_TOKENS):
    """What sentence-transformers gives, written out: one text at a time."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    rows = []
    for text in texts:
        ids = tokenizer(text, truncation=True, max_length=max_tokens, return_tensors="pt")
        with torch.no_grad():
            hidden = model(**ids).last_hidden_state[0]  # (T, D)
        row = hidden[0] if pooling == "cls" else hidden.mean(dim=0)
        rows.append((row / row.norm()).numpy())
    return np.stack(rows)


def test_each_text_has_a_vector_of_length_one(encoder):
    vectors = encoder.encode(["red cat", "tree"])

    assert (vectors.shape, vectors.dtype) == ((2, encoder.width), np.float32)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1.0, abs=1e-6)


def test_no_text_gives_no_vector(encoder):
    assert encoder.encode([]).shape == (0, encoder.width)


@settings(max_examples=20)
@given(texts=texts)
def test_a_vector_does_not_depend_on_the_texts_beside_it(encoders, texts):
    for encoder in encoders.values():
        alone = [encoder.encode([text])[0] for text in texts]
        assert encoder.encode(texts) == pytest.approx(np.array(alone).reshape(-1, encoder.width), abs=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_a_trained_encoder_pools_as_its_files_say(tmp_path, pooling):
    write_sentence_encoder(tmp_path, pooling=pooling)

    found = load_encoder(str(tmp_path)).encode(TEXTS)

    assert found == pytest.approx(pooled(tmp_path, TEXTS, pooling=pooling), abs=1e-5)


def test_a_trained_encoder_cuts_at_the_limit_of_its_files(tmp_path):
    encoder = load_encoder(str(write_sentence_encoder(tmp_path, max_tokens=6)))
    read, more = "a b c d", "a b c d e red"  # with the tokens at both ends, six

    assert encoder.encode([more])[0] == pytest.approx(encoder.encode([read])[0], abs=1e-6)
    assert encoder.encode([more])[0] != pytest.approx(encoder.encode(["a b c"])[0], abs=1e-3)


def test_a_trained_encoder_without_a_limit_stops_at_its_last_position(tmp_path):
    write_sentence_encoder(tmp_path)
    (tmp_path / "sentence_bert_config.json").unlink()

    assert np.isfinite(load_encoder(str(tmp_path)).encode(["a " * 500])).all()


def test_queries_take_the_prompt_of_the_model(tmp_path):
    encoder = load_encoder(str(write_sentence_encoder(tmp_path, prompts={"query": "query : ", "document": ""})))

    asked = encoder.encode(["red cat"], queries=True)

    assert asked == pytest.approx(encoder.encode(["query : red cat"]), abs=1e-6)
    assert asked != pytest.approx(encoder.encode(["red cat"]), abs=1e-3)


def test_weights_kept_in_half_precision_compute_in_single(tmp_path):
    write_sentence_encoder(tmp_path)
    AutoModel.from_pretrained(tmp_path, dtype=torch.bfloat16).save_pretrained(tmp_path)

    assert load_encoder(str(tmp_path)).encode(TEXTS) == pytest.approx(pooled(tmp_path, TEXTS), abs=1e-5)


class Notes(Silent):
    def __init__(self):
        self.said = []

    def note(self, text):
        self.said.append(text)


def test_a_model_that_does_not_say_how_it_pools_gets_the_mean_and_a_note(tmp_path):
    notes = Notes()
    write_sentence_encoder(tmp_path)
    for name in ("modules.json", "sentence_bert_config.json"):
        (tmp_path / name).unlink()

    encoder = load_encoder(str(tmp_path), reporter=notes)

    assert encoder.encode(["red cat"]) == pytest.approx(pooled(tmp_path, ["red cat"]), abs=1e-5)
    assert notes.said == [f"the model {tmp_path} says nothing of pooling: the mean of its tokens is taken"]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_static_encoder_takes_the_mean_of_the_tokens_it_knows(tmp_path, dtype):
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    encoder = load_encoder(str(write_static_encoder(tmp_path, dtype=dtype)))
    table = load_file(tmp_path / "model.safetensors")["embeddings"].astype(np.float32)
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    ids = [i for i in tokenizer.encode("red zzz cats", add_special_tokens=False).ids if i != 1]
    mean = table[ids].mean(axis=0)

    assert len(ids) == 3  # red, cat, ##s
    assert encoder.encode(["red zzz cats"])[0] == pytest.approx(mean / np.linalg.norm(mean), abs=1e-6)


def test_a_text_without_a_known_token_has_a_static_vector_of_zeros(encoders):
    vectors = encoders["static"].encode(["", "zzz", "red"])

    assert (vectors[:2] == 0).all() and np.linalg.norm(vectors[2]) == pytest.approx(1.0)


def test_a_static_encoder_needs_no_torch(tmp_path):
    code = f"""
import sys
from prlm_cli.core.reporting import Silent
from prlm_cli.models.encoder import load_encoder
load_encoder({str(write_static_encoder(tmp_path))!r}).encode(["red cat"])
print(*{{"torch", "transformers", "sentence_transformers"}} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert (done.stdout, done.stderr) == ("\n", "")


def test_the_same_files_have_the_same_fingerprint_anywhere(tmp_path, kind):
    first = WRITERS[kind](tmp_path / "first")
    shutil.copytree(first, tmp_path / "second")
    (tmp_path / "second" / "README.md").write_text("Nothing that changes a vector.")

    assert load_encoder(str(tmp_path / "second")).fingerprint == load_encoder(str(first)).fingerprint


@pytest.mark.parametrize(
    "changed",
    [{"seed": 1}, {"pooling": "cls"}, {"max_tokens": 6}, {"prompts": {"query": "query : "}}],
    ids=["weights", "pooling", "limit", "prompts"],
)
def test_whatever_changes_vectors_changes_the_fingerprint(tmp_path, encoders, changed):
    other = load_encoder(str(write_sentence_encoder(tmp_path, **changed)))

    assert other.fingerprint != encoders["sentence"].fingerprint
    given = {"texts": ["a b c d e red green dog"], "queries": True}
    assert other.encode(**given) != pytest.approx(encoders["sentence"].encode(**given), abs=1e-3)


def test_other_static_weights_have_another_fingerprint(tmp_path, encoders):
    assert load_encoder(str(write_static_encoder(tmp_path, seed=1))).fingerprint != encoders["static"].fingerprint


def test_a_text_is_nothing_but_text(encoder):
    texts = ["https://example.org/cat.png", "data:image/png;base64,cat", "\x00 cat", "\ud800 cat", "[SEP] cat"]

    vectors = encoder.encode(texts)

    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1.0)


@pytest.mark.parametrize("library", ["sentence_transformers", "model2vec"])
def test_a_missing_extra_names_what_to_install(monkeypatch, library):
    monkeypatch.setitem(sys.modules, library, None)

    with pytest.raises(MissingError, match=r"need the extra 'dense'; pip install 'prlm\[dense\]'") as caught:
        load_encoder("anything")

    assert caught.value.exit_code == 3


def test_a_model_that_is_nowhere_names_the_places_tried():
    with pytest.raises(MissingError, match="no model 'nobody/nothing': tried folder"):
        load_encoder("nobody/nothing")


def test_no_code_of_a_model_is_run(tmp_path):
    write_sentence_encoder(tmp_path)
    ran = tmp_path / "ran"
    (tmp_path / "mine.py").write_text(f"open({str(ran)!r}, 'w')\nclass Pooling: pass\n")
    modules = json.loads((tmp_path / "modules.json").read_text())
    modules[1]["type"] = "mine.Pooling"
    (tmp_path / "modules.json").write_text(json.dumps(modules))

    with pytest.raises(SettingsError, match=r"cannot be used for this: .* 'mine\.Pooling'"):
        load_encoder(str(tmp_path))
    assert not ran.exists()


def test_weights_that_are_not_safetensors_are_refused(tmp_path):
    write_sentence_encoder(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save({}, tmp_path / "pytorch_model.bin")

    with pytest.raises(SettingsError, match=r"cannot be used for this: .*safetensors"):
        load_encoder(str(tmp_path))


def test_a_model_of_more_than_text_is_refused(tmp_path, monkeypatch):
    from sentence_transformers import SentenceTransformer

    monkeypatch.setattr(SentenceTransformer, "modalities", ["text", "image"])

    with pytest.raises(SettingsError, match="takes more than text; name an encoder of texts"):
        load_encoder(str(write_sentence_encoder(tmp_path)))


@pytest.mark.parametrize("content", ["{", "[]"])
@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "modules.json", "1_Pooling/config.json"])
def test_a_damaged_model_is_named(tmp_path, name, content):
    write_sentence_encoder(tmp_path)
    (tmp_path / name).write_text(content)

    with pytest.raises(SettingsError, match=f"the model '{tmp_path}' cannot be used for this: "):
        load_encoder(str(tmp_path))


@pytest.mark.parametrize(("name", "content"), [("config.json", "{"), ("model.safetensors", "{}")])
def test_a_damaged_static_model_is_named(tmp_path, name, content):
    write_static_encoder(tmp_path)
    (tmp_path / name).write_text(content)

    with pytest.raises(SettingsError, match=f"the model '{tmp_path}' cannot be used for this: "):
        load_encoder(str(tmp_path))


def test_loading_and_encoding_say_nothing_and_connect_nowhere(tmp_path, kind, capfd):
    folder = WRITERS[kind](tmp_path)
    capfd.readouterr()
    network.refuse_network()
    try:
        load_encoder(str(folder)).encode(TEXTS * 20)
    finally:
        network.refuse_network(False)

    assert capfd.readouterr() == ("", "")


PAIRS = [
    ("A method to cut sentences into words for Chinese", "Chinese word segmentation", "How to bake sourdough bread"),
    ("He bought a new car", "A man purchased an automobile", "The parliament voted on the budget"),
]


@pytest.fixture(scope="module")
def minilm():
    try:
        return load_encoder(DEFAULT_ENCODER)
    except PrlmError as error:
        pytest.skip(f"NOT RUN: the default encoder cannot be had here: {error}")


@pytest.mark.model
@pytest.mark.parametrize(("text", "near", "far"), PAIRS)
def test_the_default_encoder_puts_a_paraphrase_nearer_than_another_subject(minilm, text, near, far):
    vectors = minilm.encode([text, near, far])

    assert vectors[0] @ vectors[1] > 0.5 > 0.3 > vectors[0] @ vectors[2]


@pytest.mark.model
def test_the_default_encoder_is_the_mean_of_its_tokens_up_to_256(minilm):
    from prlm_cli.models.loading import resolve_model

    texts = [text for pair in PAIRS for text in pair] + ["", "long " * 400, "Ünïcödé 語 \U0001f600"]

    expected = pooled(resolve_model(DEFAULT_ENCODER), texts, max_tokens=256)

    assert minilm.width == 384
    assert minilm.encode(texts) == pytest.approx(expected, abs=1e-4)
