"""The keys and values of prompts, computed once where a prompt is completed several times."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from packaging.version import Version

from prlm_cli.models.packing import backbone

CACHE_ARGUMENT = "cache" if Version(transformers.__version__) >= Version("5.24") else "past_key_values"
"""What models call the keys and values they go on from; renamed in transformers 5.24."""

_ATTENTION = {"full_attention", "sliding_attention"}  # what other layers keep is not a row of keys and values


def prefill_once(model: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> dict[str, Any]:
    """What `generate` takes so that it computes equal prompts of a batch once; empty where that saves nothing.

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
    # The last token stays out of the cache: `generate` needs one to start from.
    ids, mask = (half[:, :-1] for half in distinct.chunk(2, dim=1))
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    cache = backbone(model)(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=True).past_key_values
    cache.batch_select_indices(copies)
    return {CACHE_ARGUMENT: cache}
