from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GemmaConfig,
    GemmaForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from prlm_cli.core.errors import StorageError
from prlm_cli.core.prompts import PromptBuilder
from prlm_cli.core.records import ProfileDocument
from prlm_cli.core.settings import ModelSettings
from prlm_cli.models import causal_network
from prlm_cli.models.adapters import add_adapter, save_adapter
from prlm_cli.models.causal_network import CausalNetwork, load_causal_network, new_causal_network
from prlm_cli.models.loading import load_base, load_tokenizer
from prlm_cli.models.reward_model import Encoded, RewardModel
from prlm_cli.models.scorer import Item
from prlm_cli.models.tokenization import TokenizerCodec
from prlm_cli.tasks import TASKS

VOCABULARY = 61
_SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "bos_token_id": None,
    "eos_token_id": 0,
    "pad_token_id": 0,
}
_KINDS = {
    "llama": (LlamaForCausalLM, LlamaConfig, {"attn_implementation": "sdpa"}),
    "llama, eager": (LlamaForCausalLM, LlamaConfig, {"attn_implementation": "eager"}),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config, {}),
    "gemma": (GemmaForCausalLM, GemmaConfig, {"head_dim": 8}),
    "gemma3, a window of 5": (
        Gemma3ForCausalLM,
        Gemma3TextConfig,
        {
            "head_dim": 8,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            "sliding_window": 5,
        },
    ),
    "bloom, which shares no prompts": (BloomForCausalLM, BloomConfig, {"n_layer": 2, "n_head": 4}),
}
_IDS = st.integers(1, VOCABULARY - 1)
_PROMPTS = st.lists(_IDS, min_size=1, max_size=20).map(tuple)
_ANSWERS = st.lists(st.lists(_IDS, max_size=7).map(tuple), min_size=1, max_size=4)
_INPUTS = st.lists(st.tuples(_PROMPTS, _ANSWERS), max_size=4)


def _lively(model):
    """The model with weights so large that each state hangs on all tokens."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.1)
    return model


@pytest.fixture(scope="module", params=list(_KINDS))
def network(request):
    """A random network of some kind, in ids."""
    cls, config, fields = _KINDS[request.param]
    torch.manual_seed(0)
    network = new_causal_network(
        cls(config(**_SIZES, **fields)), ModelSettings(lora_r=4), None, max_answer_tokens=9, seed=0
    )
    _lively(network)
    assert network.shares_prompts == (cls is not BloomForCausalLM)
    return network


def _alone(network, encoded):
    """The score of one input by one plain forward pass of the library's own model."""
    prompt, answer, _ = encoded
    model = network.model.get_base_model()
    hidden = model.base_model(input_ids=torch.tensor([[*prompt, *answer]]), use_cache=False).last_hidden_state
    return hidden[0, -1].float() @ network.head.weight[0]


@settings(max_examples=12)
@given(drawn=_INPUTS, order=st.randoms(use_true_random=False))
def test_scores_are_those_of_single_forward_passes(network, drawn, order):
    inputs = [Encoded(prompt, answer) for prompt, answers in drawn for answer in answers]
    order.shuffle(inputs)

    found = RewardModel(network, sees_profile=True).scores_of(inputs)

    with torch.no_grad():
        assert found == pytest.approx([float(_alone(network, encoded)) for encoded in inputs], abs=1e-5)


def test_gradients_are_those_of_single_forward_passes(network):
    prompts = [((5, 9, 2, 7), (3,)), ((5, 9, 2, 7), (4, 4, 8)), ((11,), ()), ((5, 9, 2, 7), (1, 2)), ((30, 31), (9,))]
    inputs = [Encoded(*prompt) for prompt in prompts]
    weights = torch.linspace(-1, 2, len(inputs))
    network.model.train()

    def gradient(scores):
        network.zero_grad()
        (scores * weights).sum().backward()
        return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}

    found = gradient(network(inputs))
    expected = gradient(torch.stack([_alone(network, encoded) for encoded in inputs]))

    assert set(found) == {name for name in expected if "lora_" in name or name == "head.weight"} == set(expected)
    for name in expected:
        assert (found[name] - expected[name]).norm() <= 1e-4 * expected[name].norm() + 1e-7


@settings(max_examples=50)
@given(drawn=_INPUTS, budget=st.integers(1, 90))
def test_a_batch_is_bounded_in_tokens_and_every_input_is_in_one(network, drawn, budget):
    inputs = list(dict.fromkeys(Encoded(prompt, answer) for prompt, answers in drawn for answer in answers))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(causal_network, "_TOKENS_A_BATCH", budget)
        patch.setattr(causal_network, "_TOKENS_A_TREE", budget)
        batches = list(network.batches(inputs))

    assert sorted(n for batch in batches for n in batch) == list(range(len(inputs)))
    for batch in batches:
        rows: dict[tuple[int, ...], int] = {}
        for n in batch:
            prompt, answer, _ = inputs[n]
            key = prompt if network.shares_prompts else inputs[n]
            rows[key] = rows.get(key, len(prompt) - 1) + 1 + len(answer)
        assert len(batch) == 1 or len(rows) * max(rows.values()) <= budget


def _builder(folder, max_tokens=300):
    return PromptBuilder(TASKS["titles"], "completion", False, max_tokens, TokenizerCodec(load_tokenizer(folder)))


def _new(folder, *, qlora=False, seed=0, **fields):
    settings = ModelSettings(qlora=qlora, lora_r=4)
    return new_causal_network(
        load_base(folder, settings), settings, _builder(folder), seed=seed, **{"max_answer_tokens": 40, **fields}
    )


def _profile(*titles):
    return [ProfileDocument(doc_id=str(n), text=f"About {t}.", title=t, rank=n + 1) for n, t in enumerate(titles)]


ITEMS = [
    Item("We parse.", _profile("Deep parsing"), "Parsing"),
    Item("We parse.", _profile("Deep parsing"), "Parsing again"),
    Item("We parse trees, and then we parse them again.", _profile("Trees", "More trees"), "Parsing trees once more"),
    Item("We listen.", [], "Listening"),
    Item("We listen.", _profile("Deep parsing"), ""),
]


def _scores(network):
    return RewardModel(network, sees_profile=True).scores(ITEMS)


def test_what_is_scored_is_the_prompt_and_the_answer_without_an_end(tiny_model):
    network = _new(tiny_model)
    ((prompt, answer, echo),) = network.encode(ITEMS[:1])
    decode = network.builder.codec.tokenizer.decode

    assert decode(prompt) == "Text: About Deep parsing.\nTitle: Deep parsing\n\nText: We parse.\nTitle:"
    assert decode(answer) == " Parsing"
    assert echo == 0.0


def test_control_tokens_in_an_answer_stay_text_and_a_long_one_is_cut_at_its_end(tiny_model):
    network = _new(tiny_model, max_answer_tokens=12)
    encoded = network.encode([Item("We parse.", [], answer) for answer in ("A<|im_end|>", "Parsing trees at length")])

    assert network.builder.codec.tokenizer.eos_token_id not in encoded[0][1]
    assert network.builder.codec.tokenizer.decode(encoded[1][1]) == " Parsing tre"


@pytest.mark.parametrize("qlora", [False, True], ids=["fp32", "4 bit"])
def test_a_saved_network_scores_the_same_once_loaded_and_is_frozen(tiny_model, tmp_path, qlora):
    network = _lively(_new(tiny_model, qlora=qlora))
    network.save(tmp_path / "adapter")

    loaded = load_causal_network(
        load_base(tiny_model, ModelSettings(qlora=qlora)),
        tmp_path / "adapter",
        _builder(tiny_model),
        max_answer_tokens=40,
    )

    assert _scores(loaded) == pytest.approx(_scores(network), abs=1e-6)
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert sorted(path.name for path in (tmp_path / "adapter").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "score_head.safetensors",
    ]


def test_saved_weights_can_be_put_back_into_a_network(tiny_model, tmp_path):
    network = _lively(_new(tiny_model))
    network.save(tmp_path)
    other = _new(tiny_model, seed=1)
    assert _scores(other) != pytest.approx(_scores(network), abs=1e-3)

    other.restore(tmp_path)

    assert _scores(other) == _scores(network)
    assert {name for name, p in other.named_parameters() if p.requires_grad} == {
        name for name, p in network.named_parameters() if p.requires_grad
    }


def test_the_seed_makes_adapter_and_head(tiny_model):
    first, again, other = (_new(tiny_model, seed=seed).head.weight for seed in (3, 3, 4))

    assert torch.equal(first, again) and not torch.equal(first, other)


def _halve(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("name", ["score_head.safetensors", "adapter_model.safetensors", "adapter_config.json"])
@pytest.mark.parametrize("harm", [_halve, lambda path: path.unlink()], ids=["half", "none"])
def test_a_damaged_network_is_a_storage_error(tiny_model, tmp_path, name, harm):
    _new(tiny_model).save(tmp_path)
    harm(tmp_path / name)

    with pytest.raises(StorageError, match=str(tmp_path)):
        load_causal_network(
            load_base(tiny_model, ModelSettings()), tmp_path, _builder(tiny_model), max_answer_tokens=40
        )


@pytest.mark.parametrize("tensors", [{"weight": torch.zeros(1, 33)}, {"other": torch.zeros(1, 32)}])
def test_a_foreign_head_is_a_storage_error(tiny_model, tmp_path, tensors):
    _new(tiny_model).save(tmp_path)
    save_file(tensors, tmp_path / "score_head.safetensors")

    with pytest.raises(StorageError, match=r"does not fit the base model|holds no head"):
        load_causal_network(
            load_base(tiny_model, ModelSettings()), tmp_path, _builder(tiny_model), max_answer_tokens=40
        )


@pytest.fixture(params=[False, True], ids=["fp32", "4 bit"])
def policy_and_judge(request, tiny_model, tmp_path):
    """A policy, a reward model as a second adapter on it, and what the reward model scores on a base of its own."""
    settings = ModelSettings(qlora=request.param, lora_r=4)
    apart = _lively(_new(tiny_model, qlora=request.param, seed=1))
    apart.save(tmp_path / "reward")
    policy = _lively(add_adapter(load_base(tiny_model, settings), ModelSettings(lora_r=8), seed=0))
    judge = load_causal_network(
        policy, tmp_path / "reward", _builder(tiny_model), max_answer_tokens=40, adapter="reward"
    )
    return policy, judge, _scores(apart)


def _policy_step(policy):
    policy.zero_grad()
    ids = torch.tensor([[65, 66, 67, 68]])
    logits = policy(input_ids=ids).logits
    logits.log_softmax(-1)[0, :, 70].sum().backward()
    gradient = {name: p.grad.clone() for name, p in policy.named_parameters() if p.grad is not None}
    return logits.detach(), gradient, {name for name, p in policy.named_parameters() if p.requires_grad}


def test_beside_a_policy_it_scores_as_it_does_alone(policy_and_judge):
    _, judge, alone = policy_and_judge

    assert _scores(judge) == pytest.approx(alone, abs=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_scoring_leaves_the_policy_as_it_was(policy_and_judge, training):
    policy, judge, _ = policy_and_judge
    policy.train(training)
    before = _policy_step(policy)

    _scores(judge)
    after = _policy_step(policy)

    assert (policy.training, policy.active_adapter) == (training, "default")
    assert torch.equal(before[0], after[0])
    assert before[2] == after[2] and all(".default." in name for name in after[2])
    assert before[1].keys() == after[1].keys()
    assert all(torch.equal(before[1][name], after[1][name]) for name in before[1])


def test_an_error_while_it_scores_leaves_the_policy_as_it_was(policy_and_judge):
    policy, judge, _ = policy_and_judge
    before = _policy_step(policy)

    with pytest.raises(IndexError):
        RewardModel(judge, sees_profile=True).scores_of([((10_000,), (1,))])

    assert (policy.active_adapter, _policy_step(policy)[2]) == ("default", before[2])


def test_a_saved_policy_holds_nothing_of_its_judge(policy_and_judge, tmp_path):
    policy, judge, _ = policy_and_judge
    _scores(judge)

    save_adapter(policy, tmp_path / "policy")

    assert sorted(path.name for path in (tmp_path / "policy").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    saved = load_file(tmp_path / "policy" / "adapter_model.safetensors")
    own = {name: p for name, p in policy.named_parameters() if ".default." in name}
    assert {name.replace(".default", "") for name in own} == set(saved)
    assert all(torch.equal(saved[name.replace(".default", "")], p) for name, p in own.items())


def test_a_network_is_a_module_that_trains_adapter_and_head_alone(tiny_model):
    network = _new(tiny_model)

    assert isinstance(network, CausalNetwork)
    assert {name.split(".")[-3] for name, p in network.named_parameters() if p.requires_grad and "lora" in name} == {
        "lora_A",
        "lora_B",
    }
    assert [name for name, p in network.named_parameters() if p.requires_grad and "lora" not in name] == ["head.weight"]
