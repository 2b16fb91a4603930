"""LoRA adapters: new ones, saved ones, and their precision."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from prlm_cli.core.errors import StorageError
from prlm_cli.core.settings import ModelSettings
from prlm_cli.models.quiet import quiet_libraries

DEFAULT = "default"
"""What PEFT calls the first adapter of a model."""

_TRAIN_AGAIN = "train it again"


def add_adapter(base: Any, settings: ModelSettings, *, seed: int) -> Any:
    """The base model with a new, trainable LoRA adapter on all linear layers.

    Args:
        base: From `load_base`.
        settings: Rank and scale.
        seed: Of the adapter's random half.
    """
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    config = LoraConfig(
        r=settings.lora_r,
        lora_alpha=settings.lora_alpha,
        lora_dropout=0.0,  # rollouts are drawn in training mode: dropout would make them another policy's
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    with quiet_libraries():
        model = get_peft_model(base, config)
    train_in_fp32(model)
    return model


def load_adapter(base: Any, folder: Path, *, trainable: bool, name: str = DEFAULT) -> Any:
    """The base model with a saved adapter; a model that has adapters gets one more, which is not active.

    Raises:
        StorageError: If the folder holds none, or one of another base model.
    """
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors import SafetensorError, safe_open

    if not (folder / "adapter_model.safetensors").is_file():
        raise StorageError(f"{folder} holds no adapter", hint=_TRAIN_AGAIN)
    try:
        with quiet_libraries():
            if isinstance(base, PeftModel):
                model, was_training = base, base.training
                model.load_adapter(folder, name, is_trainable=trainable)
                model.train(was_training)  # loading ends in eval mode
            else:
                model = PeftModel.from_pretrained(base, folder, name, is_trainable=trainable)
        with safe_open(folder / "adapter_model.safetensors", "pt") as saved:
            # A base with fewer or more layers is loaded without an error, and with part of the weights.
            own = get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False)
            fits = set(saved.keys()) == set(own)
    except SafetensorError as error:
        raise StorageError(f"the adapter in {folder} is damaged", hint=_TRAIN_AGAIN) from error
    except (RuntimeError, ValueError) as error:
        raise StorageError(f"{folder} does not fit the base model", hint="use the model it was trained on") from error
    if not fits:
        raise StorageError(f"{folder} does not fit the base model", hint="use the model it was trained on")
    if trainable:
        train_in_fp32(model)
    return model


def restore_adapter(model: Any, folder: Path) -> None:
    """Puts the weights of a saved adapter into the model's own, in place."""
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    with quiet_libraries():
        set_peft_model_state_dict(model, load_file(folder / "adapter_model.safetensors"))


@contextlib.contextmanager
def active_adapter(model: Any, name: str) -> Iterator[None]:
    """A block in eval mode with that adapter active; what is active and trainable before is so again after it."""
    was_training, was_active = model.training, model.active_adapter
    trainable = [parameter.requires_grad for parameter in model.parameters()]
    try:
        model.train(False)
        if was_active != name:
            model.set_adapter(name, inference_mode=True)
        yield
    finally:
        if was_active != name:
            model.set_adapter(was_active)
            # Setting an adapter decides anew what is trained.
            for parameter, is_trained in zip(model.parameters(), trainable, strict=True):
                parameter.requires_grad_(is_trained)
        model.train(was_training)


def save_adapter(model: Any, folder: Path) -> None:
    """Writes the adapter as safetensors."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with quiet_libraries():
        model.save_pretrained(folder, selected_adapters=[DEFAULT])  # not the reference of a KL term, nor a judge
    (folder / "README.md").unlink(missing_ok=True)  # the library's empty model card


def answer_in_precision_of_base(model: Any) -> None:
    """Casts the adapters to the type of the base, or else each layer casts all that passes it, there and back."""
    dtype = model.dtype
    for path, parameter in model.named_parameters():
        if "lora_" in path:
            parameter.data = parameter.data.to(dtype)


def train_in_fp32(model: Any) -> None:
    """Casts what is trained to fp32: in bf16, where TRL puts adapters of 4-bit models, small updates vanish."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.float32)
