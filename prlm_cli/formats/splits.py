"""How files and folders name their splits."""

from __future__ import annotations

import re

_NAMES = {"train": "train", "dev": "dev", "val": "dev", "valid": "dev", "validation": "dev", "test": "test"}


def split_named(name: str) -> str | None:
    """The split that a name speaks of: `train_questions.json`, `val-00000-of-00001.parquet`, `validation`."""
    words = re.split(r"[^a-z]+", name.lower())
    return next((_NAMES[word] for word in words if word in _NAMES), None)
