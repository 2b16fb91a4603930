"""One prompt with several continuations in one sequence, so that the prompt is computed once.

A mask lets every continuation see the prompt and itself only:

    tokens    p_0 … p_{P-2} | p_{P-1} c1_1 … c1_C | p_{P-1} c2_1 … c2_C | …
    position  0   … P-2     | P-1     P   …       | P-1     P   …       |

Each continuation repeats the last prompt token, so that the state which predicts its first token is its own as well. A
position's state depends on the keys it sees and their positions alone, so the values equal those of separate rows.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch

from prlm_cli.models.tree_attention import (
    FULL,
    NOBODY,
    PROMPT,
    SLIDING,
    block_mask,
    by_layer_type,
    compiles_flex_attention,
    dense_mask,
    layer_types,
    rule,
    takes_masks,
    use_tree_attention,
)

# What models call what they do to their logits.
_TRANSFORMED = ("final_logit_softcapping", "logit_scale", "output_multiplier", "lm_head_multiplier", "logits_scaling")


class Tree(NamedTuple):
    """A prompt of P >= 1 token ids, and G lists of token ids that go on from it."""

    prompt: Sequence[int]
    continuations: Sequence[Sequence[int]]

    @property
    def length(self) -> int:
        """Tokens of the packed sequence."""
        return len(self.prompt) - 1 + sum(1 + len(continuation) for continuation in self.continuations)


class Rows(NamedTuple):
    """B packed trees, padded on the right to L tokens; each (B, L).

    `segments` says which continuation a position belongs to, or that it is of the prompt, or of nobody.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    segments: torch.Tensor


def why_not_packed(model: Any) -> str:
    """Why this model cannot read packed sequences; empty if it can."""
    config = model.config.get_text_config()
    if not takes_masks(config):
        return "its attention takes no arbitrary mask"
    if not layer_types(config) <= {FULL, SLIDING}:
        return "not all of its layers attend to the context, whole or in a window"
    if "position_ids" not in inspect.signature(backbone(model).forward).parameters:
        return "it counts positions by itself"
    return ""


def pack(trees: Sequence[Tree], *, device: torch.device | None = None) -> Rows:
    """The trees as rows of one batch."""
    longest = max(tree.length for tree in trees)
    columns: tuple[list[list[int]], ...] = ([], [], [])
    for tree in trees:
        prefix = len(tree.prompt) - 1
        tokens, positions, segments = list(tree.prompt[:-1]), list(range(prefix)), [PROMPT] * prefix
        for number, continuation in enumerate(tree.continuations):
            tokens += [tree.prompt[-1], *continuation]
            positions += range(prefix, prefix + 1 + len(continuation))
            segments += [number] * (1 + len(continuation))
        for column, row, pad in zip(columns, (tokens, positions, segments), (0, 0, NOBODY), strict=True):
            column.append(row + [pad] * (longest - tree.length))
    return Rows(*(torch.tensor(column, device=device) for column in columns))


def ends(tree: Tree) -> list[int]:
    """Where in its row the last token of each continuation stands."""
    found, position = [], len(tree.prompt) - 2
    for continuation in tree.continuations:
        position += 1 + len(continuation)
        found.append(position)
    return found


def hidden_states(model: Any, rows: Rows) -> torch.Tensor:
    """(B, L, D): the states that go into the model's head.

    Args:
        model: A causal language model, with or without an adapter; its gradient flows.
        rows: From `pack`.
    """
    states: torch.Tensor = backbone(model)(
        input_ids=rows.input_ids,
        attention_mask=_masks(model, rows),
        position_ids=rows.position_ids,
        use_cache=False,
    ).last_hidden_state
    return states


def backbone(model: Any) -> Any:
    """The layers below the head; an adapter lives inside them."""
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    return causal.base_model


def transforms_logits(model: Any) -> bool:
    """Whether something is done to the logits after the head, so that the head alone does not give them."""
    config = model.config.get_text_config()
    return any(getattr(config, name, None) for name in _TRANSFORMED)


def batches(lengths: Sequence[int], tokens: int) -> Iterator[list[int]]:
    """The positions of the lengths in batches of similar ones.

    Args:
        lengths: Of sequences.
        tokens: What the padded sequences of a batch have at most; a longer one is a batch of its own.
    """
    batch: list[int] = []
    for n in sorted(range(len(lengths)), key=lambda n: lengths[n]):
        if batch and (len(batch) + 1) * lengths[n] > tokens:
            yield batch
            batch = []
        batch.append(n)
    if batch:
        yield batch


def _masks(model: Any, rows: Rows) -> Any:
    """The mask of the layers, where possible without the queries of the prompts or as blocks."""
    splits = use_tree_attention(model)
    shared = int((rows.segments == PROMPT).all(0).cumprod(0).sum()) if splits else 0

    def mask_of(window: int | None) -> Any:
        is_seen = rule(rows.segments, rows.position_ids, window)
        if splits and compiles_flex_attention(rows.segments.device):
            return block_mask(is_seen, rows.segments.shape, rows.segments.device)
        # Causal attention without a mask knows no window.
        return dense_mask(is_seen, rows.segments.shape, shared if window is None or window >= shared else 0, model)

    return by_layer_type(model, mask_of)
