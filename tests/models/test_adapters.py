from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from prlm_cli.core.errors import StorageError
from prlm_cli.core.settings import ModelSettings
from prlm_cli.models.adapters import add_adapter, load_adapter, save_adapter, train_in_fp32
from prlm_cli.models.loading import load_base

_IDS = torch.tensor([[65, 66, 67, 68]])


def _randomised(model):
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


@torch.no_grad()
def _logits(model):
    return model(input_ids=_IDS).logits


@pytest.mark.parametrize("qlora", [False, True], ids=["fp32", "4 bit"])
def test_a_saved_adapter_gives_the_same_logits_once_loaded(tiny_model, tmp_path, qlora):
    settings = ModelSettings(qlora=qlora)
    torch.manual_seed(0)
    model = _randomised(add_adapter(load_base(tiny_model, settings), settings, seed=0))
    save_adapter(model, tmp_path / "adapter")

    torch.manual_seed(1)
    loaded = load_adapter(load_base(tiny_model, settings), tmp_path / "adapter", trainable=False)

    assert torch.allclose(_logits(loaded), _logits(model), atol=1e-6)
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_a_new_adapter_changes_nothing_yet_and_is_all_that_trains(tiny_model):
    base = _logits(load_base(tiny_model, ModelSettings()))
    model = add_adapter(load_base(tiny_model, ModelSettings()), ModelSettings(), seed=0)

    assert torch.equal(_logits(model), base)
    assert {name.split(".")[-3] for name, p in model.named_parameters() if p.requires_grad} == {"lora_A", "lora_B"}
    assert not [name for name, p in model.named_parameters() if p.requires_grad and "lm_head" in name]


def test_the_seed_makes_the_adapter(tiny_model):
    def first(seed):
        model = add_adapter(load_base(tiny_model, ModelSettings()), ModelSettings(), seed=seed)
        return next(p for p in model.parameters() if p.requires_grad)

    assert torch.equal(first(3), first(3))
    assert not torch.equal(first(3), first(4))


def test_an_adapter_is_safetensors_and_a_configuration(tiny_model, tmp_path):
    save_adapter(add_adapter(load_base(tiny_model, ModelSettings()), ModelSettings(), seed=0), tmp_path / "adapter")

    assert sorted(path.name for path in (tmp_path / "adapter").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]


def test_an_adapter_can_be_trained_on(tiny_model, tmp_path):
    save_adapter(add_adapter(load_base(tiny_model, ModelSettings()), ModelSettings(), seed=0), tmp_path / "adapter")

    loaded = load_adapter(load_base(tiny_model, ModelSettings()), tmp_path / "adapter", trainable=True)

    assert {p.dtype for p in loaded.parameters() if p.requires_grad} == {torch.float32}


def test_an_adapter_of_another_base_model_is_refused(tiny_model, tmp_path):
    save_adapter(add_adapter(load_base(tiny_model, ModelSettings()), ModelSettings(), seed=0), tmp_path / "adapter")
    wider = AutoModelForCausalLM.from_config(
        LlamaConfig(vocab_size=258, hidden_size=48, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2)
    )

    with pytest.raises(StorageError, match=r"adapter does not fit the base model; use the model it was trained on"):
        load_adapter(wider, tmp_path / "adapter", trainable=False)


def test_an_adapter_of_a_deeper_base_model_is_refused(tiny_model, tmp_path):
    deeper = AutoModelForCausalLM.from_config(
        LlamaConfig(vocab_size=258, hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=2)
    )
    save_adapter(add_adapter(deeper, ModelSettings(), seed=0), tmp_path / "adapter")

    with pytest.raises(StorageError, match=r"does not fit the base model"):
        load_adapter(load_base(tiny_model, ModelSettings()), tmp_path / "adapter", trainable=False)


def _halve(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("name", "harm"),
    [
        ("adapter_model.safetensors", _halve),
        ("adapter_model.safetensors", lambda path: path.unlink()),
        ("adapter_config.json", _halve),
        ("adapter_config.json", lambda path: path.unlink()),
    ],
    ids=["half the weights", "no weights", "half the configuration", "no configuration"],
)
def test_a_damaged_adapter_is_a_storage_error(tiny_model, tmp_path, name, harm):
    save_adapter(add_adapter(load_base(tiny_model, ModelSettings()), ModelSettings(), seed=0), tmp_path / "adapter")
    harm(tmp_path / "adapter" / name)

    with pytest.raises(StorageError):
        load_adapter(load_base(tiny_model, ModelSettings()), tmp_path / "adapter", trainable=False)


def test_only_what_is_trained_is_cast_to_fp32():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)).to(torch.bfloat16)
    model[0].requires_grad_(False)

    train_in_fp32(model)

    assert [p.dtype for p in model.parameters()] == [torch.bfloat16] * 2 + [torch.float32] * 2


def test_what_adapters_import_says_nothing():
    code = "import prlm_cli.models.adapters, peft, bitsandbytes.backends.cpu.ops"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout + done.stderr == ""
