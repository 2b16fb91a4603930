"""Tiny random policies in fp32, and queries to train them on."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from prlm_cli.core.records import Retrieved
from prlm_cli.core.settings import ModelSettings
from prlm_cli.models.adapters import add_adapter
from prlm_cli.models.loading import load_base, load_tokenizer

VOCABULARY = 61
_SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "bos_token_id": None,
    "eos_token_id": 0,
    "pad_token_id": 0,
}
_GEMMA = {"layer_types": ["sliding_attention", "full_attention"], "head_dim": 8}
_WINDOW = 6  # shorter than some prompts and longer than others
_KINDS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "llama": (LlamaForCausalLM, LlamaConfig, {}),
    "llama, eager": (LlamaForCausalLM, LlamaConfig, {"attn_implementation": "eager"}),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config, {}),
    "mistral, all layers slide": (MistralForCausalLM, MistralConfig, {"sliding_window": _WINDOW}),
    "gemma3, one layer slides": (Gemma3ForCausalLM, Gemma3TextConfig, {**_GEMMA, "sliding_window": _WINDOW}),
    "gemma3, one layer slides, eager": (
        Gemma3ForCausalLM,
        Gemma3TextConfig,
        {**_GEMMA, "sliding_window": _WINDOW, "attn_implementation": "eager"},
    ),
    "gemma3, longer window": (Gemma3ForCausalLM, Gemma3TextConfig, {**_GEMMA, "sliding_window": 64}),
}
KINDS = list(_KINDS)


@cache
def adapted(kind: str) -> Any:
    """A random model with a random adapter, whose gradients are therefore not zero."""
    return _adapted(_base(kind))


def scaled() -> Any:
    """The same of a kind that scales its logits after the head."""
    torch.manual_seed(0)
    return _adapted(GraniteForCausalLM(GraniteConfig(**_SIZES, logits_scaling=0.25)))


def quantised(kind: str, folder: Path) -> Any:
    """The same in 4 bits; the folder takes its files."""
    _base(kind).save_pretrained(folder)
    return _adapted(load_base(folder, ModelSettings(qlora=True)))


def _base(kind: str) -> Any:
    cls, config, fields = _KINDS[kind]
    torch.manual_seed(0)
    return cls(config(**{**_SIZES, "attn_implementation": "sdpa", **fields}))


def _adapted(base: Any) -> Any:
    model = add_adapter(base, ModelSettings(lora_r=4), seed=0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return model


def mistral_config(**fields: Any) -> MistralConfig:
    """The configuration of a tiny Mistral."""
    return MistralConfig(**_SIZES, **fields)


def trainable(folder: Path, **fields: Any) -> tuple[Any, Any]:
    """The model and tokenizer in a folder, with a new adapter."""
    settings = ModelSettings(lora_r=4, **fields)
    return add_adapter(load_base(folder, settings), settings, seed=0), load_tokenizer(folder)


def weights_of(model: Any, *, trained: bool = True) -> dict[str, torch.Tensor]:
    """Copies of the weights that training changes, or of all others."""
    return {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad == trained}


def largest_difference(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    """The largest difference between two sets of the same weights."""
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max()) for name in a)


def asked(number: int, target: str | None = "a title") -> Retrieved:
    """A query without records."""
    return Retrieved(
        query_id=f"q{number}", user_id="u", text=f"text {number}", target=target, profile=[], retriever="none"
    )
