"""Tokenizers for tests: the tiny model's, with more control tokens or without a chat template."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prlm_cli.models.loading import load_tokenizer

END_THINK = "</think>"


def changed(tiny_model: Path, folder: Path, **attributes: Any) -> Any:
    """The tiny model's tokenizer with one more added token that is not special, and other attributes."""
    tokenizer = load_tokenizer(tiny_model)
    tokenizer.add_tokens([END_THINK])
    for name, value in attributes.items():
        setattr(tokenizer, name, value)
    tokenizer.save_pretrained(folder)
    return load_tokenizer(folder)
