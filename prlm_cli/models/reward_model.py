"""The personalisation reward model: how well an answer fits a query and its user's records."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from prlm_cli.core.prompts import PromptBuilder
from prlm_cli.core.records import ProfileDocument
from prlm_cli.core.workspace import read_json, write_text
from prlm_cli.models.tokenization import TokenizerCodec

_TEMPERATURE_FILE = "temperature.json"


Item = tuple[str, Sequence[ProfileDocument], str]
"""What is scored: a query's text, the records shown with it, and an answer."""


class RewardModel:
    """A scorer of (profile, query, answer): a base model with an adapter and a head of one score.

    The input is the policy's prompt in the layout `completion`, packed by the same builder, followed by the answer.

    Args:
        model: A sequence classifier with one label.
        tokenizer: Of the model.
        builder: Packs the input; its layout is `completion`, without reasoning.
        sees_profile: Whether records are shown; the paper's model does not see them.
        temperature: T in `sigmoid(s / T)`.
    """

    def __init__(
        self, model: Any, tokenizer: Any, builder: PromptBuilder, *, sees_profile: bool, temperature: float = 1.0
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.builder = builder
        self.sees_profile = sees_profile
        self.temperature = temperature
        # The score is read at the last token that is not padding.
        model.config.get_text_config().pad_token_id = tokenizer.pad_token_id

    def encode(self, text: str, profile: Sequence[ProfileDocument], answer: str) -> list[int]:
        """The ids of one input. No end token: where it serves as padding it would be taken for such."""
        codec = self.builder.codec
        assert isinstance(codec, TokenizerCodec)
        packed = self.builder.build(text, profile if self.sees_profile else ())
        return [*packed.ids, *codec.encode_completion(self.builder.completion(answer))[:-1]]

    @torch.no_grad()
    def scores(self, items: Sequence[Item], *, batch_size: int = 16) -> list[float]:
        """The logit of each item, batched by length; equal inputs get the very same one."""
        asked = [tuple(self.encode(*item)) for item in items]
        # Scored once: in another batch the same input differs in its last digits, which would pass for a difference.
        encoded = [list(ids) for ids in dict.fromkeys(asked)]
        order = sorted(range(len(encoded)), key=lambda n: len(encoded[n]))
        found = [0.0] * len(encoded)
        was_training = self.model.training
        self.model.train(False)
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            longest = max(len(encoded[n]) for n in batch)
            pad = self.tokenizer.pad_token_id
            ids = [encoded[n] + [pad] * (longest - len(encoded[n])) for n in batch]
            mask = [[1] * len(encoded[n]) + [0] * (longest - len(encoded[n])) for n in batch]
            logits = self.model(
                input_ids=torch.tensor(ids, device=self.model.device),  # (B, T)
                attention_mask=torch.tensor(mask, device=self.model.device),
            ).logits[:, 0]
            for n, logit in zip(batch, logits.float().tolist(), strict=True):
                found[n] = logit
        self.model.train(was_training)
        by_input = dict(zip(map(tuple, encoded), found, strict=True))
        return [by_input[ids] for ids in asked]

    def rewards(self, items: Sequence[Item]) -> list[float]:
        """`sigmoid(logit / temperature)` of each item, in [0, 1]."""
        return [1 / (1 + math.exp(-max(-50.0, min(50.0, s / self.temperature)))) for s in self.scores(items)]


def fit_temperature(margins: Sequence[float]) -> float:
    """The T that makes `sigmoid(margin / T)` most likely where every margin should be positive; 1 without margins.

    A scan over a grid: the likelihood has one peak, and two digits are enough. Bounded below, so that margins that are
    all positive do not turn the reward into a step.
    """
    if not margins:
        return 1.0
    grid = [2 ** (power / 4) for power in range(-8, 17)]
    return min(grid, key=lambda t: sum(math.log1p(math.exp(min(50.0, -m / t))) for m in margins))


def save_temperature(folder: Path, temperature: float) -> None:
    """Keeps T beside the adapter."""
    write_text(folder / _TEMPERATURE_FILE, f'{{"temperature": {temperature}}}\n')


def load_temperature(folder: Path) -> float:
    """The T kept beside the adapter."""
    return float(read_json(folder / _TEMPERATURE_FILE)["temperature"])
