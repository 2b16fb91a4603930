"""Cross-encoders: how well a text fits a query, read together by one model. For ordering a few candidates anew."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from prlm_cli.core.errors import SettingsError
from prlm_cli.core.reporting import Reporter
from prlm_cli.models.encoder import without_surrogates
from prlm_cli.models.loading import device_and_dtype, fingerprint_of, resolve_model, unfit_models_named
from prlm_cli.models.quiet import quiet_libraries
from prlm_cli.models.tokenization import AS_TEXT, beginning_of, pair_limit

DEFAULT_CROSS_ENCODER = "cross-encoder/ms-marco-MiniLM-L6-v2"
_BATCH = 32


class CrossEncoder:
    """A scorer of (query, text).

    Args:
        name: As it was asked for.
        fingerprint: Of the model's files; another one wherever the scores can be others.
        model: A sequence classifier with one label.
        tokenizer: Of the model.
    """

    def __init__(self, name: str, fingerprint: str, model: Any, tokenizer: Any) -> None:
        self.name = name
        self.fingerprint = fingerprint
        self._model = model
        self._tokenizer = tokenizer
        self._limit = pair_limit(model, tokenizer)

    @torch.inference_mode()
    def score(self, query: str, texts: Sequence[str]) -> list[float]:
        """The logit of each text, higher where it fits the query better; they compare within one query only.

        A pair beyond the model's limit loses the end of its text. A query is cut only where it would take more than
        three quarters of the room.
        """
        query = beginning_of(without_surrogates(query), self._limit * 3 // 4, self._tokenizer)
        scores = [0.0] * len(texts)
        order = sorted(range(len(texts)), key=lambda n: len(texts[n]))
        for start in range(0, len(order), _BATCH):
            batch = order[start : start + _BATCH]
            encoded = self._tokenizer(
                [query] * len(batch),
                [without_surrogates(texts[n]) for n in batch],
                truncation="only_second",
                max_length=self._limit,
                padding=True,
                return_tensors="pt",
                **AS_TEXT,
            )
            logits = self._model(**encoded.to(self._model.device)).logits[:, 0]  # (B,)
            for n, logit in zip(batch, logits.tolist(), strict=True):
                scores[n] = logit
        return scores


def load_cross_encoder(name: str, *, device: str | None = None, reporter: Reporter | None = None) -> CrossEncoder:
    """The cross-encoder of a name, in fp32, on a GPU where there is one.

    Args:
        name: A local folder, or a model in a cache or on the hub.
        device: Where it runs, in the words of torch.
        reporter: Told about a download.

    Raises:
        MissingError: If the model is nowhere to be had.
        SettingsError: If it does not give one score.
    """
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = resolve_model(name, reporter)
    with quiet_libraries(), unfit_models_named(name):
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, padding_side="right")
        model, loaded = AutoModelForSequenceClassification.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    # A model without such a head gets a random one.
    if loaded["missing_keys"] or model.config.num_labels != 1:
        raise SettingsError(f"the model '{name}' does not give one score", hint="name a cross-encoder")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model.config.get_text_config().pad_token_id = tokenizer.pad_token_id  # decoders score at the last other token
    return CrossEncoder(name, fingerprint_of(folder), model.to(device or device_and_dtype()[0]).eval(), tokenizer)
