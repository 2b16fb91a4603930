"""Completions by transformers' `generate`, in batches of prompts of similar length."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from prlm_cli.engines import Completion, by_length
from prlm_cli.models.prefill import prefill_once
from prlm_cli.models.quiet import quiet_libraries


class HfEngine:
    """The engine of a model in this process.

    Args:
        model: A causal language model, with or without an adapter.
        tokenizer: From `load_tokenizer`.
        stop_ids: Tokens that end a completion.
        max_new_tokens: Longest completion.
        batch_size: Prompts decoded together.
        temperature: 0 decodes greedily.
        seed: Of the sampling.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        stop_ids: Sequence[int],
        max_new_tokens: int,
        batch_size: int,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._stop_ids = list(stop_ids)
        self._max_new_tokens = max_new_tokens
        self._batch_size = batch_size
        self._temperature = temperature
        self._seed = seed

    @property
    def decoding(self) -> dict[str, Any]:
        """What a completion depends on, besides its prompt, its key and the policy."""
        seed = self._seed if self._temperature else None
        return {
            "stop_ids": sorted(self._stop_ids),
            "max_new_tokens": self._max_new_tokens,
            "temperature": self._temperature,
            "seed": seed,
        }

    def complete(self, prompts: Sequence[list[int]], keys: Sequence[str]) -> Iterator[dict[int, Completion]]:
        """The completions by the places of their prompts, batch by batch."""
        for batch in by_length(prompts, self._batch_size):
            completions = self._complete_batch([prompts[n] for n in batch], [keys[n] for n in batch])
            yield dict(zip(batch, completions, strict=True))

    @torch.no_grad()
    def _complete_batch(self, prompts: list[list[int]], keys: list[str]) -> list[Completion]:
        longest = max(map(len, prompts))
        pad = self._tokenizer.pad_token_id
        device = self._model.device
        input_ids = torch.tensor([[pad] * (longest - len(ids)) + ids for ids in prompts], device=device)  # (B, T)
        mask = torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for ids in prompts], device=device)
        sampling = [_PerRowSampling(self._temperature, self._seed, keys)] if self._temperature else []
        was_training = self._model.training
        # In training mode, gradient checkpointing takes the cache from `generate`, which then reads one token only.
        self._model.train(False)
        with quiet_libraries():
            output = self._model.generate(
                input_ids=input_ids,
                attention_mask=mask,
                **prefill_once(self._model, input_ids, mask),
                do_sample=False,  # sampling is argmax of noisy scores, so that it does not depend on the batch
                logits_processor=sampling,
                max_new_tokens=self._max_new_tokens,
                eos_token_id=self._stop_ids,
                pad_token_id=pad,
                # Many models come with penalties that the rollouts of the training do not have.
                repetition_penalty=1.0,
                no_repeat_ngram_size=0,
                num_beams=1,
                use_cache=True,
            )
        self._model.train(was_training)
        return [self._read(row[longest:].tolist()) for row in output]

    def _read(self, ids: list[int]) -> Completion:
        end = next((n for n, token in enumerate(ids) if token in self._stop_ids), None)
        kept = ids if end is None else ids[:end]
        text = self._tokenizer.decode(kept, skip_special_tokens=True)
        return Completion(text, len(kept), end is None)


class _PerRowSampling:
    """Adds Gumbel noise seeded by each row's key: the argmax is then a sample (the Gumbel-max trick)."""

    def __init__(self, temperature: float, seed: int, keys: Sequence[str]) -> None:
        self._temperature = temperature
        self._generators = [torch.Generator().manual_seed(_seed_of(seed, key)) for key in keys]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        noise = torch.stack([torch.rand(scores.shape[-1], generator=g) for g in self._generators])  # (B, V)
        gumbel = -torch.log(-torch.log(noise.clamp(1e-10, 1 - 1e-7)))
        return scores / self._temperature + gumbel.to(scores.device)


def _seed_of(seed: int, key: str) -> int:
    return int.from_bytes(hashlib.blake2b(f"{seed}:{key}".encode(), digest_size=7).digest(), "little")
