from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM, BertConfig

from prlm_cli.core.errors import MissingError, SettingsError
from prlm_cli.core.settings import ModelSettings
from prlm_cli.models.adapters import add_adapter
from prlm_cli.models.shapes import KNOWN_MODELS, parameters_of, shape_of, shape_of_config

_SIZES = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
}
# Parameters as the pages of the models give them.
_PUBLISHED = {
    "SmolLM2-135M": 134_515_008,
    "HuggingFaceTB/SmolLM2-360M": 361_821_120,
    "HuggingFaceTB/SmolLM2-1.7B": 1_711_376_384,
    "meta-llama/Llama-3.2-1B": 1_235_814_400,
    "meta-llama/Llama-3.2-3B": 3_212_749_824,
    "Qwen/Qwen2.5-0.5B": 494_032_768,
    "Qwen/Qwen2.5-1.5B": 1_543_714_304,
    "Qwen/Qwen2.5-3B": 3_085_938_688,
    "Qwen/Qwen2.5-7B": 7_615_616_512,
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B": 1_777_088_000,
}


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "gemma", "gemma3_text", "mistral"])
def test_the_counts_are_those_of_the_real_model_and_of_its_adapter(family, tied):
    config = AutoConfig.for_model(family, **_SIZES, tie_word_embeddings=tied)
    shape = shape_of_config(config)
    model = AutoModelForCausalLM.from_config(config)
    parameters = sum(p.numel() for p in model.parameters())

    adapted = add_adapter(model, ModelSettings(lora_r=3), seed=0)

    assert shape.parameters == parameters
    assert 3 * shape.adapted_widths == sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    assert shape.packs


@pytest.mark.parametrize(("family", "transforms"), [("gemma2", True), ("granite", True), ("gemma3_text", False)])
def test_logits_that_are_transformed_after_the_head_are_known_and_their_prompts_not_shared(family, transforms):
    shape = shape_of_config(AutoConfig.for_model(family, **_SIZES))

    assert (shape.transforms_logits, shape.packs) == (transforms, not transforms)


def test_the_norms_of_queries_and_keys_count_for_each_head():
    plain, with_norms = (shape_of_config(AutoConfig.for_model(family, **_SIZES)) for family in ("qwen2", "qwen3"))

    assert plain.norms == 2 * 32
    assert with_norms.norms == 2 * 32 + 8 * (4 + 2)


def test_the_known_models_have_their_published_numbers_of_parameters():
    assert {name: shape_of(name).parameters for name in KNOWN_MODELS} == _PUBLISHED
    assert shape_of("Qwen/Qwen2.5-7B-Instruct") == shape_of("Qwen/Qwen2.5-7B")


def test_a_folder_is_read_without_its_weights(tiny_model, tmp_path):
    (tmp_path / "config.json").write_text((tiny_model / "config.json").read_text())

    assert shape_of(str(tmp_path)).parameters == sum(
        p.numel() for p in AutoModelForCausalLM.from_pretrained(tiny_model).parameters()
    )


@pytest.mark.model
def test_the_embedded_model_has_as_many_parameters_as_its_file(embedded_model):
    from safetensors import safe_open

    with safe_open(embedded_model / "model.safetensors", "pt") as file:
        stored = sum(torch.Size(file.get_slice(name).get_shape()).numel() for name in file.keys())  # noqa: SIM118

    assert shape_of("SmolLM2-135M-Instruct").parameters == stored


def test_an_encoder_is_counted_without_its_head(tmp_path):
    BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8).save_pretrained(
        tmp_path
    )
    model = AutoModelForMaskedLM.from_config(AutoConfig.from_pretrained(tmp_path)).bert

    # The pooler is part of the model, though the one for masked words does without.
    assert parameters_of(str(tmp_path)) == sum(p.numel() for p in model.parameters()) + 32 * 32 + 32
    assert parameters_of("bert-base-uncased") == 109_482_240


def test_a_model_that_is_nowhere_is_one_line():
    with pytest.raises(MissingError, match="no configuration of the model 'nobody/nothing'"):
        shape_of("nobody/nothing")


@pytest.mark.parametrize("family", ["gpt2", "mixtral", "qwen3_moe"])
def test_layers_of_another_kind_are_an_error(tmp_path, family):
    AutoConfig.for_model(family).save_pretrained(tmp_path)

    with pytest.raises(SettingsError, match="of a kind that cannot be planned for"):
        shape_of(str(tmp_path))


@pytest.mark.parametrize("content", ["{", json.dumps({"model_type": "vit"}), json.dumps({"model_type": "nope"})])
def test_a_configuration_of_no_causal_model_is_an_error(tmp_path, content):
    (tmp_path / "config.json").write_text(content)

    with pytest.raises(SettingsError, match="cannot be used for this"):
        shape_of(str(tmp_path))
