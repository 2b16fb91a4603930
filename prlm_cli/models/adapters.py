"""LoRA adapters: new ones, saved ones, and their precision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from prlm_cli.core.errors import StorageError
from prlm_cli.core.settings import ModelSettings
from prlm_cli.models.quiet import quiet_libraries


def add_adapter(base: Any, settings: ModelSettings, *, seed: int, scores: bool = False) -> Any:
    """The base model with a new, trainable LoRA adapter on all linear layers.

    Args:
        base: From `load_base`.
        settings: Rank and scale.
        seed: Of the adapter's random half.
        scores: Whether the base has a score head, which is then trained whole.
    """
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    config = LoraConfig(
        r=settings.lora_r,
        lora_alpha=settings.lora_alpha,
        lora_dropout=0.0,  # rollouts are drawn in training mode: dropout would make them another policy's
        target_modules="all-linear",
        task_type="SEQ_CLS" if scores else "CAUSAL_LM",
    )
    with quiet_libraries():
        model = get_peft_model(base, config)
    train_in_fp32(model)
    return model


def load_adapter(base: Any, folder: Path, *, trainable: bool) -> Any:
    """The base model with a saved adapter.

    Raises:
        StorageError: If the folder holds none, or one of another base model.
    """
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors import SafetensorError, safe_open

    if not (folder / "adapter_model.safetensors").is_file():
        raise StorageError(f"{folder} holds no adapter", hint="train the policy again")
    try:
        with quiet_libraries():
            model = PeftModel.from_pretrained(base, folder, is_trainable=trainable)
        with safe_open(folder / "adapter_model.safetensors", "pt") as saved:
            # A base with fewer or more layers is loaded without an error, and with part of the weights.
            fits = set(saved.keys()) == set(get_peft_model_state_dict(model, save_embedding_layers=False))
    except SafetensorError as error:
        raise StorageError(f"the adapter in {folder} is damaged", hint="train the policy again") from error
    except (RuntimeError, ValueError) as error:
        raise StorageError(f"{folder} does not fit the base model", hint="use the model it was trained on") from error
    if not fits:
        raise StorageError(f"{folder} does not fit the base model", hint="use the model it was trained on")
    if trainable:
        train_in_fp32(model)
    return model


def save_adapter(model: Any, folder: Path) -> None:
    """Writes the adapter (and a trained head) as safetensors."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with quiet_libraries():
        model.save_pretrained(folder, selected_adapters=["default"])  # not the reference of a KL term
    (folder / "README.md").unlink(missing_ok=True)  # the library's empty model card


def train_in_fp32(model: Any) -> None:
    """Casts what is trained to fp32: in bf16, where TRL puts adapters of 4-bit models, small updates vanish."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.float32)
