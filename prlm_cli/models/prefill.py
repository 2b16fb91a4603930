"""The keys and values of prompts, computed once where a prompt is completed several times."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from packaging.version import Version

from prlm_cli.models.packing import backbone

# Renamed in transformers 5.24.
_CACHE_ARGUMENT = "cache" if Version(transformers.__version__) >= Version("5.24") else "past_key_values"
_ATTENTION = {"full_attention", "sliding_attention"}  # what other layers keep is not a row of keys and values


def prefill(model: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor, copies: torch.Tensor) -> dict[str, Any]:
    """What `generate` takes so that it does not compute these prompts again.

    Args:
        model: A causal language model, with or without an adapter.
        input_ids: (N, P) prompts, padded on the left.
        attention_mask: (N, P).
        copies: (B,) which of the prompts each row of the generation has.
    """
    # The last token stays out of the cache: `generate` needs one to start from.
    positions = (attention_mask.cumsum(-1) - 1).clamp(min=0)[:, :-1]
    cache = backbone(model)(
        input_ids=input_ids[:, :-1], attention_mask=attention_mask[:, :-1], position_ids=positions, use_cache=True
    ).past_key_values
    cache.batch_select_indices(copies)
    return {_CACHE_ARGUMENT: cache}


def prefill_once(model: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> dict[str, Any]:
    """The same for a batch of prompts of which some are equal; empty where that would save nothing, or cannot be.

    Args:
        model: A causal language model, with or without an adapter.
        input_ids: (B, P) prompts, padded on the left.
        attention_mask: (B, P).
    """
    layers = set(getattr(model.config.get_text_config(), "layer_types", None) or _ATTENTION)
    if input_ids.shape[1] == 1 or not layers <= _ATTENTION:
        return {}
    # The mask as well: a padding token may stand in a prompt.
    rows = torch.cat([input_ids, attention_mask], dim=1)
    distinct, copies = rows.unique(dim=0, return_inverse=True)  # type: ignore[no-untyped-call]
    if len(distinct) == len(rows):
        return {}
    distinct_ids, distinct_mask = distinct.chunk(2, dim=1)
    return prefill(model, distinct_ids, distinct_mask, copies)
