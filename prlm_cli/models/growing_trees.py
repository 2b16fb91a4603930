"""Packed trees (`packing`) that grow by a token a row: what decoding the completions of groups takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import DynamicCache

from prlm_cli.models.packing import backbone
from prlm_cli.models.prefill import CACHE_ARGUMENT
from prlm_cli.models.tree_attention import NOBODY, PROMPT, by_layer_type, dense_mask, rule, use_tree_attention


class GrowingTrees:
    """N prompts and what has been written after each, G times, as packed trees that grow by a token a row.

    The keys and values of a prompt are kept once. Those of its completions stand behind it in the order in which they
    came, and a mask lets each see its own. So a row that ends leaves no gap: it just adds no more.

    Args:
        model: A causal language model, with or without an adapter.
        prompts: N lists of token ids; all but their last tokens are computed at once.
        group_size: G.
    """

    def __init__(self, model: Any, prompts: Sequence[Sequence[int]], group_size: int) -> None:
        use_tree_attention(model)
        self._model = model
        self._group_size = group_size
        # One that keeps all, also for layers with a window: in a tree the oldest place is not the farthest.
        self._cache = DynamicCache()
        self._prompts = list(range(len(prompts)))  # those in the batch
        self._next = self._tensor([len(prompt) - 1 for prompt in prompts])  # positions
        longest = max(map(len, prompts)) - 1
        pads = [longest + 1 - len(prompt) for prompt in prompts]
        self._segments = self._tensor([[NOBODY] * pad + [PROMPT] * (longest - pad) for pad in pads])  # (N, P - 1)
        self._positions = self._tensor([[0] * pad + list(range(longest - pad)) for pad in pads])
        if longest:
            ids = self._tensor([[0] * pad + list(prompt[:-1]) for pad, prompt in zip(pads, prompts, strict=True)])
            self._read(ids)

    def _read(self, ids: torch.Tensor) -> None:
        backbone(self._model)(
            input_ids=ids,
            attention_mask=(self._segments == PROMPT).long(),
            position_ids=self._positions,
            use_cache=True,
            **{CACHE_ARGUMENT: self._cache},
        )

    def grow(self, tokens: Mapping[int, int]) -> torch.Tensor:
        """(R, V) logits after one more token of each row; a row that is left out once has ended.

        Args:
            tokens: Row -> what comes next in it. Rows are numbered from 0 to N*G, G of each prompt, and in order.
        """
        of_prompt: dict[int, list[tuple[int, int]]] = {}
        for row, token in tokens.items():
            of_prompt.setdefault(row // self._group_size, []).append((row % self._group_size, token))
        self._keep(list(of_prompt))
        width = max(map(len, of_prompt.values()))
        slots = [of_one + [(NOBODY, 0)] * (width - len(of_one)) for of_one in of_prompt.values()]
        segments = self._tensor([[segment for segment, _ in of_one] for of_one in slots])  # (N, A)
        ids = self._tensor([[token for _, token in of_one] for of_one in slots])
        hidden = self._hidden(ids, segments, self._next[:, None].expand(-1, width))
        self._next += 1
        logits: torch.Tensor = self._model.get_output_embeddings()(hidden[segments != NOBODY])
        return logits

    def _hidden(self, ids: torch.Tensor, segments: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """(N, A, D) states of A more places in each tree."""
        start = self._segments.shape[1]
        self._segments = torch.cat([self._segments, segments], 1)  # (N, L)
        self._positions = torch.cat([self._positions, positions], 1)

        def mask_of(window: int | None) -> torch.Tensor:
            is_seen = rule(self._segments, self._positions, window)
            return dense_mask(is_seen, self._segments.shape, start, self._model)

        hidden: torch.Tensor = backbone(self._model)(
            input_ids=ids,
            attention_mask=by_layer_type(self._model, mask_of),
            position_ids=positions,
            use_cache=True,
            **{CACHE_ARGUMENT: self._cache},
        ).last_hidden_state
        return hidden

    def _keep(self, prompts: list[int]) -> None:
        """Takes prompts all of whose rows have ended out of the batch."""
        if prompts == self._prompts:
            return
        kept = self._tensor([self._prompts.index(prompt) for prompt in prompts])
        self._cache.batch_select_indices(kept)
        self._segments, self._positions, self._next = self._segments[kept], self._positions[kept], self._next[kept]
        self._prompts = prompts

    def _tensor(self, rows: Sequence[Any]) -> torch.Tensor:
        return torch.tensor(rows, dtype=torch.long, device=self._model.device)
