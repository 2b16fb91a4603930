from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import BertConfig, BertForMaskedLM

from prlm_cli.core.errors import SettingsError, StorageError
from prlm_cli.core.records import ProfileDocument
from prlm_cli.models.encoder_network import load_encoder_network
from prlm_cli.models.loading import is_causal
from prlm_cli.models.packages import EMBEDDED_ENCODER, package_of
from prlm_cli.models.reward_model import RewardModel
from prlm_cli.models.scorer import Item
from tests.models.tiny_encoders import VOCABULARY, write_cross_encoder, write_sentence_encoder

_WORDS = st.lists(st.sampled_from(["red", "cat", "unknown", "trees", "a", ":", "[SEP]", "[", "x"]), max_size=40).map(
    " ".join
)
_TOKENS = {n: token for token, n in VOCABULARY.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_cross_encoder(tmp_path_factory.mktemp("encoder"))  # 24 tokens at most


@pytest.fixture(scope="module")
def network(folder):
    return load_encoder_network(folder, max_tokens=512, max_answer_tokens=6, seed=0)


def _tokens(encoded):
    return " ".join(_TOKENS[n] for n in encoded[0])


def _profile(*records):
    return [ProfileDocument(doc_id=str(n), text=text, title=title) for n, (title, text) in enumerate(records)]


def test_without_records_the_input_is_the_pair_of_query_and_answer(network):
    ((ids, types, _),) = network.encode([Item("red  cat", [], "a tree")])

    assert _tokens((ids, types)) == "[CLS] red cat [SEP] a tree [SEP]"
    assert types == (0, 0, 0, 0, 1, 1, 1)


def test_the_digest_of_the_records_holds_their_titles_first(network):
    (encoded,) = network.encode([Item("cat", _profile(("red", "dog dog"), (None, "blue")), "tree")])

    # "|" is no word of this tokenizer
    assert _tokens(encoded) == "[CLS] red [UNK] dog dog [UNK] blue [UNK] cat [SEP] tree [SEP]"


def test_a_control_token_that_somebody_wrote_ends_nothing(network):
    (encoded,) = network.encode([Item("[SEP] cat", [], "red [SEP]")])

    assert _tokens(encoded).count("[SEP]") == 2


@given(text=_WORDS, answer=_WORDS, title=_WORDS, body=_WORDS, sees=st.booleans())
def test_whatever_is_asked_fits_and_only_the_first_part_loses_its_end(network, text, answer, title, body, sees):
    item = Item(text, _profile((title, body)) if sees else [], answer)
    ((ids, types, _),) = network.encode([item])
    first = [i for i, kind in zip(ids, types, strict=True) if not kind]
    second = [i for i, kind in zip(ids, types, strict=True) if kind]
    ((whole, kinds, _),) = network.encode([Item("", [], answer)])

    assert len(ids) <= 24
    assert second == [i for i, kind in zip(whole, kinds, strict=True) if kind]
    assert len(second) <= 6 + 1
    assert (first[0], ids[-1]) == (VOCABULARY["[CLS]"], VOCABULARY["[SEP]"])


def test_the_digest_takes_at_most_half_of_the_room(network):
    long = " ".join(["dog"] * 50)
    (encoded,) = network.encode([Item("cat " * 5, _profile(("red " * 30, long)), "tree")])

    assert _tokens(encoded).split().count("red") == 10  # of 24 tokens, 4 are the answer's and the ends
    assert _tokens(encoded).split().count("cat") == 5


@settings(max_examples=20)
@given(st.lists(st.tuples(_WORDS, _WORDS), max_size=6))
def test_scores_are_those_of_single_forward_passes(network, pairs):
    items = [Item(text, [], answer) for text, answer in pairs]
    inputs = network.encode(items)

    found = RewardModel(network, sees_profile=True).scores(items)

    network.model.eval()
    with torch.no_grad():
        alone = [
            float(network.model(input_ids=torch.tensor([ids]), token_type_ids=torch.tensor([types])).logits)
            for ids, types, _ in inputs
        ]
    assert found == pytest.approx(alone, abs=1e-5)


def test_dropout_acts_in_training_only(network):
    model, items = RewardModel(network, sees_profile=True), [Item("red cat", [], "tree")]
    network.model.train()

    assert model.scores(items) == model.scores(items)
    assert network.model.training
    assert not torch.equal(*(network(network.encode(items)).detach() for _ in range(2)))


def test_a_saved_network_scores_the_same_once_loaded(network, tmp_path):
    network.save(tmp_path)
    items = [Item("red cat", [], "tree"), Item("a", _profile(("b", "c")), "d")]

    loaded = load_encoder_network(tmp_path, max_tokens=512, max_answer_tokens=6)
    other = load_encoder_network(write_cross_encoder(tmp_path / "other", seed=1), max_tokens=512, max_answer_tokens=6)
    other.restore(tmp_path)

    for again in (loaded, other):
        assert RewardModel(again, sees_profile=True).scores(items) == RewardModel(network, sees_profile=True).scores(
            items
        )


def test_a_sentence_encoder_gets_a_head_by_the_seed(tmp_path):
    folder = write_sentence_encoder(tmp_path / "encoder")
    weights = [
        load_encoder_network(folder, max_tokens=64, max_answer_tokens=8, seed=seed).model.classifier.weight
        for seed in (1, 1, 2)
    ]

    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_a_folder_without_a_head_is_no_reward_model(tmp_path):
    folder = write_sentence_encoder(tmp_path / "encoder")

    with pytest.raises(StorageError, match=r"holds no head of a reward model; train it again"):
        load_encoder_network(folder, max_tokens=64, max_answer_tokens=8)


@pytest.mark.parametrize("harm", ["half", "none"])
def test_a_damaged_network_is_an_error(network, tmp_path, harm):
    network.save(tmp_path)
    weights = tmp_path / "model.safetensors"
    if harm == "half":
        weights.write_bytes(weights.read_bytes()[:900])
    else:
        weights.unlink()

    with pytest.raises(StorageError, match=r"the reward model in .* is damaged; train it again"):
        load_encoder_network(tmp_path, max_tokens=64, max_answer_tokens=8)
    with pytest.raises(SettingsError, match=r"cannot be used for this"):
        load_encoder_network(tmp_path, max_tokens=64, max_answer_tokens=8, seed=0)


def test_the_configuration_says_whether_a_model_is_causal(folder, tiny_model, tmp_path):
    assert is_causal(tiny_model)
    assert not is_causal(folder)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(SettingsError):
        is_causal(tmp_path)


def test_bert_base_in_its_real_shape_is_scored_and_trained_whole(tmp_path, folder):
    """12 layers of 768: what the paper's preset loads, with random weights and fewer words."""
    from transformers import AutoTokenizer

    config = BertConfig(vocab_size=len(VOCABULARY))
    assert (config.num_hidden_layers, config.hidden_size, config.max_position_embeddings) == (12, 768, 512)
    torch.manual_seed(0)
    BertForMaskedLM(config).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(folder, model_max_length=512).save_pretrained(tmp_path)

    network = load_encoder_network(tmp_path, max_tokens=512, max_answer_tokens=128, seed=0)
    items = [Item("red cat " * 300, [], "tree"), Item("cat", [], "dog")]
    inputs = network.encode(items)
    network(inputs[1:]).sum().backward()

    assert [len(ids) for ids, *_ in inputs] == [512, 5]
    assert all(torch.isfinite(torch.tensor(RewardModel(network, sees_profile=False).scores(items))))
    assert network.model.classifier.weight.shape == (1, 768)
    unused = {"bert.embeddings.position_ids"}
    assert not [n for n, p in network.model.named_parameters() if p.grad is None and n not in unused]


@pytest.mark.model
def test_the_embedded_encoder_is_a_reward_model():
    package = package_of(EMBEDDED_ENCODER)
    if not package or not package.folder.is_dir():
        pytest.skip("NOT RUN: the embedded encoder is not on this machine")

    network = load_encoder_network(package.folder, max_tokens=320, max_answer_tokens=64, seed=0)
    scores = RewardModel(network, sees_profile=True).scores([Item("We parse.", _profile(("Trees", "b")), "Parsing")])

    assert len(scores) == 1
