"""Who sees whom in packed trees (`packing`), and an attention that makes use of it.

One rule says it; the masks of every backend come from it. `sdpa` computes each score that a mask then removes, so two
thirds of its work on a packed group are in vain. The attention here is `sdpa` for all other input, and

1. computes prompts, which no continuation is seen from, as plain causal attention without a mask;
2. hands a block mask to flex attention, which skips what nobody sees and holds no mask of length times length.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.flex_attention import flex_attention_forward
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

PROMPT, NOBODY = -1, -2
"""Segments beside those of the continuations: seen by all, and by none but its like."""

FULL, SLIDING = "full_attention", "sliding_attention"
_NAME = "prlm_tree"

Rule = Callable[[Any, Any, Any, Any], torch.Tensor]


def attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | BlockMask | None,
    **options: Any,
) -> tuple[torch.Tensor, Any]:
    """The attention of one layer: (B, L, H, D), and no weights.

    Args:
        module: The layer.
        query: (B, H, L, D).
        key: (B, K, L', D).
        value: (B, K, L', D).
        attention_mask: None, or (B, 1, L, L') as for `sdpa`; of the last queries only, those before them are prompts,
            in whose place each row has nothing else; or blocks.
        options: Of transformers' attention functions.
    """
    if isinstance(attention_mask, BlockMask):
        found: tuple[torch.Tensor, Any] = flex_attention_forward(module, query, key, value, attention_mask, **options)
        return found
    split = 0 if attention_mask is None else query.shape[2] - attention_mask.shape[2]
    rest, _ = sdpa_attention_forward(module, query[:, :, split:], key, value, attention_mask, **options)
    if not split:
        return rest, None
    prompts = (tensor[:, :, :split] for tensor in (query, key, value))
    first, _ = sdpa_attention_forward(module, *prompts, None, **options)
    return torch.cat([first, rest], dim=1), None


AttentionInterface.register(_NAME, attend)
AttentionMaskInterface.register(_NAME, sdpa_mask)


def use_tree_attention(model: Any) -> bool:
    """Gives a model whose attention is `sdpa` the one of this module, for good; whether it has it."""
    config = model.config.get_text_config()
    if config._attn_implementation == "sdpa":
        model.set_attn_implementation(_NAME)
    return bool(config._attn_implementation == _NAME)


def takes_masks(config: Any) -> bool:
    """Whether the attention of a model with this configuration takes any mask."""
    return getattr(config, "_attn_implementation", "") in ("sdpa", "eager", _NAME)


def layer_types(config: Any) -> set[str]:
    """The kinds of layers; a configuration that names none has one, which slides where there is a window."""
    if named := getattr(config, "layer_types", None):
        return set(named)
    slides = getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
    return {SLIDING if slides else FULL}


def by_layer_type(model: Any, mask_of: Callable[[int | None], Any]) -> Any:
    """The mask of the layers; where they are of several kinds, one a kind, as such models take them.

    Args:
        model: A causal language model, with or without an adapter.
        mask_of: The window of a kind of layers, None where it has none -> its mask.
    """
    config = model.config.get_text_config()
    masks = {kind: mask_of(config.sliding_window if kind == SLIDING else None) for kind in layer_types(config)}
    return masks if len(masks) > 1 else next(iter(masks.values()))


def rule(segments: torch.Tensor, position_ids: torch.Tensor, window: int | None) -> Rule:
    """Whether a query sees a key: (row, head, query, key), numbers or tensors that broadcast -> bool.

    Args:
        segments: (B, L), of queries and keys.
        position_ids: (B, L).
        window: How far a layer sees, in tokens.
    """

    def is_seen(row: Any, head: Any, query: Any, key: Any) -> torch.Tensor:
        of_key = segments[row, key]
        seen: torch.Tensor = (key <= query) & ((of_key == PROMPT) | (of_key == segments[row, query]))
        if window is None:
            return seen
        # By positions, not by places in the row: between a continuation and its prompt stand the others.
        return seen & (position_ids[row, query] - position_ids[row, key] < window)

    return is_seen


def dense_mask(is_seen: Rule, shape: torch.Size, start: int, model: Any) -> torch.Tensor:
    """(B, 1, L - start, L): what is added to the scores of the queries from a place on.

    A boolean mask would be turned into this by `sdpa` once a layer, and be wrong without an error in eager attention.

    Args:
        is_seen: From `rule`.
        shape: (B, L).
        start: The place of the first of those queries.
        model: Says device and precision.
    """
    row = torch.arange(shape[0], device=model.device)[:, None, None]
    place = torch.arange(shape[1], device=model.device)
    seen = is_seen(row, 0, place[start:, None], place)[:, None]
    kind = model.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else model.dtype
    return torch.zeros(seen.shape, dtype=dtype, device=model.device).masked_fill_(~seen, torch.finfo(dtype).min)


def block_mask(is_seen: Rule, shape: torch.Size, device: torch.device) -> BlockMask:
    """The same of all queries, as blocks."""
    return create_block_mask(is_seen, shape[0], None, shape[1], shape[1], device=device, _compile=device.type == "cuda")


@functools.cache
def compiles_flex_attention(device: torch.device) -> bool:
    """Whether flex attention works on a device, there and back; on a GPU it needs Triton and a C compiler."""
    if device.type != "cuda":
        return False  # there it has no backward pass
    ids = torch.zeros(1, 128, dtype=torch.long, device=device)
    state = torch.ones(1, 1, 128, 64, device=device, dtype=torch.float16, requires_grad=True)
    try:
        mask = block_mask(rule(ids, ids, None), ids.shape, device)
        torch.compile(flex_attention)(state, state, state, block_mask=mask).sum().backward()  # type: ignore[no-untyped-call]
    except RuntimeError:  # what its compilers raise
        return False
    return True
