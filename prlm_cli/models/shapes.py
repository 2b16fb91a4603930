"""A model's shape from its configuration alone: how many weights of which kind it has, and how wide its layers are.

The network is built on torch's meta device, which holds no numbers, so the counts are those of the real model.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from prlm_cli.core.errors import MissingError
from prlm_cli.core.network import is_offline
from prlm_cli.models.loading import cached_model, unfit_models_named


@dataclass(frozen=True)
class Shape:
    """What memory and time depend on; parameters are counted, widths are in elements."""

    layers: int
    hidden: int
    intermediate: int  # between the two matrices of a layer's feed-forward part
    attention: int  # heads times the width of one
    cached: int  # keys and values of one token in one layer
    heads: int
    vocabulary: int
    linear_parameters: int  # of the linear layers below the head: what 4 bits and adapters apply to
    linear_biases: int
    other_parameters: int  # embedding, norms, and the head where it has weights of its own
    adapted_widths: int  # inputs plus outputs of those layers, summed
    adapted_inputs: int  # their inputs alone
    adapted_layers: int
    widest_layer: int  # parameters of the largest of them
    norms: int  # width of what the norms of one layer take in, summed
    packs: bool  # whether the prompt of a group can be computed once
    transforms_logits: bool  # whether something is done to the logits after the head

    @property
    def parameters(self) -> int:
        """Of the base model."""
        return self.linear_parameters + self.linear_biases + self.other_parameters


_SIZES = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "vocab_size",
)
# From the config.json of each model's page on the hub: the sizes above, and whether the head shares the embedding. So a
# run can be planned without a network. What BERT's leaves out is the library's default.
_KNOWN: dict[str, tuple[str, tuple[int, ...], bool]] = {
    "SmolLM2-135M": ("llama", (576, 1536, 30, 9, 3, 64, 49152), True),
    "HuggingFaceTB/SmolLM2-360M": ("llama", (960, 2560, 32, 15, 5, 64, 49152), True),
    "HuggingFaceTB/SmolLM2-1.7B": ("llama", (2048, 8192, 24, 32, 32, 64, 49152), True),
    "meta-llama/Llama-3.2-1B": ("llama", (2048, 8192, 16, 32, 8, 64, 128256), True),
    "meta-llama/Llama-3.2-3B": ("llama", (3072, 8192, 28, 24, 8, 128, 128256), True),
    "Qwen/Qwen2.5-0.5B": ("qwen2", (896, 4864, 24, 14, 2, 64, 151936), True),
    "Qwen/Qwen2.5-1.5B": ("qwen2", (1536, 8960, 28, 12, 2, 128, 151936), True),
    "Qwen/Qwen2.5-3B": ("qwen2", (2048, 11008, 36, 16, 2, 128, 151936), True),
    "Qwen/Qwen2.5-7B": ("qwen2", (3584, 18944, 28, 28, 4, 128, 152064), False),
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B": ("qwen2", (1536, 8960, 28, 12, 2, 128, 151936), False),
    "bert-base-uncased": ("bert", (), True),
}
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")
KNOWN_MODELS = tuple(name for name, (_, sizes, _) in _KNOWN.items() if sizes)
"""Models that can be planned for without their files; their `-Instruct` versions too."""


def shape_of(name: str) -> Shape:
    """The shape of a model, by its name; no weights are read.

    Raises:
        MissingError: If its configuration is nowhere to be had.
        SettingsError: If the configuration is damaged, or no causal language model's.
    """
    with unfit_models_named(name):
        return shape_of_config(_config(name))


def parameters_of(name: str) -> int:
    """How many parameters a model of any kind has, its head aside.

    Raises:
        MissingError: If its configuration is nowhere to be had.
        SettingsError: If the configuration is damaged.
    """
    from transformers import AutoModel

    with unfit_models_named(name), torch.device("meta"):
        return sum(parameter.numel() for parameter in AutoModel.from_config(_config(name)).parameters())


def shape_of_config(config: Any) -> Shape:
    """The shape that a configuration of transformers describes.

    Raises:
        ValueError: If its layers are not of the kind that the counts are of: experts, or no linear layers.
    """
    from transformers import AutoModelForCausalLM

    from prlm_cli.models.packing import transforms_logits, why_not_packed

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    text = config.get_text_config()
    head = model.get_output_embeddings()
    linear = [m for m in model.modules() if isinstance(m, torch.nn.Linear) and m is not head]
    if not linear or not hasattr(text, "intermediate_size") or any(hasattr(text, name) for name in _EXPERTS):
        raise ValueError("its layers are of a kind that cannot be planned for")
    weights = sum(m.weight.numel() for m in linear)
    biases = sum(m.bias.numel() for m in linear if m.bias is not None)
    head_width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    key_value_heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    return Shape(
        layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        intermediate=text.intermediate_size,
        attention=text.num_attention_heads * head_width,
        cached=2 * key_value_heads * head_width,
        heads=text.num_attention_heads,
        vocabulary=text.vocab_size,
        linear_parameters=weights,
        linear_biases=biases,
        other_parameters=sum(p.numel() for p in model.parameters()) - weights - biases,
        adapted_widths=sum(m.in_features + m.out_features for m in linear),
        adapted_inputs=sum(m.in_features for m in linear),
        adapted_layers=len(linear),
        widest_layer=max(m.weight.numel() for m in linear),
        norms=_norms(model, {"q_norm": text.num_attention_heads, "k_norm": key_value_heads}) // text.num_hidden_layers,
        packs=not (why_not_packed(model) or transforms_logits(model)),
        transforms_logits=transforms_logits(model),
    )


def _norms(model: Any, times: dict[str, int]) -> int:
    """What all norms take in for one token; those of queries and keys act on each head."""
    named = ((name.rpartition(".")[2], module) for name, module in model.named_modules())
    return sum(
        module.weight.numel() * times.get(name, 1)
        for name, module in named
        if type(module).__name__.endswith("Norm") and getattr(module, "weight", None) is not None and name != "norm"
    )


def _config(name: str) -> Any:
    """The configuration of a model that is here, is known, or is on the hub."""
    from transformers import AutoConfig

    folder = cached_model(name)
    if folder is None and (known := _KNOWN.get(name.removesuffix("-Instruct"))):
        family, sizes, is_tied = known
        return AutoConfig.for_model(family, **dict(zip(_SIZES, sizes, strict=False)), tie_word_embeddings=is_tied)
    return AutoConfig.from_pretrained(folder or _downloaded(name).parent, local_files_only=True)


def _downloaded(name: str) -> Path:
    """The configuration file of a model of the hub."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(name, "config.json", local_files_only=is_offline()))
    except (HFValidationError, LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise MissingError(
            f"no configuration of the model '{name}': not on this machine, not on the hub, and none that is known",
            hint=f"name a folder, or for example {KNOWN_MODELS[-1]}",
        ) from error
