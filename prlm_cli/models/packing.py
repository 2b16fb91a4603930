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

_PROMPT = -1
_FULL, _SLIDING = "full_attention", "sliding_attention"


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

    `segments` says which continuation a position belongs to, -1 to the prompt.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    segments: torch.Tensor


def why_not_packed(model: Any) -> str:
    """Why this model cannot read packed sequences; empty if it can."""
    config = model.config.get_text_config()
    if getattr(config, "_attn_implementation", "") not in ("sdpa", "eager"):
        return "its attention takes no arbitrary mask"
    if not _layer_types(config) <= {_FULL, _SLIDING}:
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
        tokens, positions, segments = list(tree.prompt[:-1]), list(range(prefix)), [_PROMPT] * prefix
        for number, continuation in enumerate(tree.continuations):
            tokens += [tree.prompt[-1], *continuation]
            positions += range(prefix, prefix + 1 + len(continuation))
            segments += [number] * (1 + len(continuation))
        # What pads a row is one more continuation, which nobody sees.
        padding = (0, 0, len(tree.continuations))
        for column, row, pad in zip(columns, (tokens, positions, segments), padding, strict=True):
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


def _layer_types(config: Any) -> set[str]:
    """The kinds of layers; a configuration that names none has one, which slides where there is a window."""
    if named := getattr(config, "layer_types", None):
        return set(named)
    slides = getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
    return {_SLIDING if slides else _FULL}


def _masks(model: Any, rows: Rows) -> torch.Tensor | dict[str, torch.Tensor]:
    """The mask of the layers; where they are of several kinds, one a kind, as such models take them."""
    config = model.config.get_text_config()
    kinds = {
        kind: _mask(model, rows, config.sliding_window if kind == _SLIDING else None) for kind in _layer_types(config)
    }
    return kinds if len(kinds) > 1 else next(iter(kinds.values()))


def _mask(model: Any, rows: Rows, window: int | None) -> torch.Tensor:
    """(B, 1, L, L): who may see whom; added to the scores for eager attention, boolean for sdpa."""
    length = rows.segments.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=rows.segments.device).tril()
    seen, by = rows.segments[:, None, :], rows.segments[:, :, None]
    allowed = causal & ((seen == _PROMPT) | (seen == by))
    if window is not None:
        # By positions, not by places in the row: between a continuation and its prompt stand the others.
        allowed &= rows.position_ids[:, :, None] - rows.position_ids[:, None, :] < window
    allowed = allowed[:, None]  # (B, 1, L, L)
    if model.config.get_text_config()._attn_implementation == "sdpa":
        return allowed
    # Eager attention adds a boolean mask to its scores, which is wrong without an error.
    return torch.zeros_like(allowed, dtype=model.dtype).masked_fill(~allowed, torch.finfo(model.dtype).min)
