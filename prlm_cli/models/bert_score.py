"""BERTScore: how well the words of an answer and of a target match in a language model's eyes.

Source: Zhang et al., BERTScore (arXiv 1904.09675): each token is matched with the most similar one of the other text,
by the cosine of their contextual embeddings; precision is the mean over the answer's tokens, recall over the target's.
As in the authors' released code the tokens around a text can be matched but do not count, the embeddings are of layer
17 of RoBERTa-large, and there is neither idf weighting nor rescaling against a baseline (roberta-large_L17_no-idf).
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch

from prlm_cli.core.records import Generation
from prlm_cli.models.encoder import without_surrogates
from prlm_cli.models.loading import device_and_dtype, resolve_model
from prlm_cli.models.quiet import quiet_libraries
from prlm_cli.models.tokenization import AS_TEXT

MODEL, LAYER = "FacebookAI/roberta-large", 17


class BertScore(NamedTuple):
    """Precision, recall and their harmonic mean, each in [-1, 1]; what people write is mostly above 0.8."""

    precision: float
    recall: float
    f1: float


class BertScorer:
    """Scores pairs of texts.

    Args:
        model: An encoder.
        tokenizer: Of the model; it marks the tokens around a text.
        layer: Which hidden states are compared; 0 are the embeddings.
    """

    def __init__(self, model: Any, tokenizer: Any, layer: int) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._layer = layer

    def score(self, answer: str, target: str) -> BertScore:
        """The score of an answer; 0 where one of the texts has no token."""
        (a, a_counts), (b, b_counts) = self._embedded(answer), self._embedded(target)
        if not a_counts.any() or not b_counts.any():
            return BertScore(0.0, 0.0, 0.0)
        similar = a @ b.T  # (A, B) cosines
        precision = float(similar.max(dim=1).values[a_counts].mean())
        recall = float(similar.max(dim=0).values[b_counts].mean())
        f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        return BertScore(precision, recall, f1)

    @torch.inference_mode()
    def _embedded(self, text: str) -> tuple[torch.Tensor, torch.Tensor]:
        """(T, D) unit vectors of the tokens, and (T,) which of them count."""
        encoded = self._tokenizer(
            without_surrogates(text.strip()),
            truncation=True,
            max_length=min(self._tokenizer.model_max_length, 512),
            return_special_tokens_mask=True,
            return_tensors="pt",
            **AS_TEXT,
        )
        around = encoded.pop("special_tokens_mask")[0].bool()
        states = self._model(**encoded.to(self._model.device), output_hidden_states=True).hidden_states[self._layer]
        return torch.nn.functional.normalize(states[0].float(), dim=-1).cpu(), ~around


def load_bert_scorer(folder: Path, layer: int) -> BertScorer:
    """The scorer of an encoder in a folder."""
    from transformers import AutoModel, AutoTokenizer

    device, dtype = device_and_dtype()
    with quiet_libraries():
        # As the authors' code reads a RoBERTa: the first word like any other, with a space before it.
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, add_prefix_space=True)
        model = AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True, dtype=dtype)
    return BertScorer(model.to(device).eval(), tokenizer, layer)


def bertscore(generation: Generation) -> float | None:
    """BERTScore F1 against the target, in [-1, 1], higher is better; None without a target, 0 without an answer.

    Raises:
        MissingError: If RoBERTa-large cannot be had.
    """
    target = (generation.target or "").strip()
    if not target:
        return None
    return _scorer(MODEL, LAYER).score(generation.answer, target).f1 if generation.answer else 0.0


@lru_cache(maxsize=1)
def _scorer(name: str, layer: int) -> BertScorer:
    return load_bert_scorer(resolve_model(name), layer)
