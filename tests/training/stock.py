"""What stock TRL computes for groups of completions: the reference that ours is held against."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from types import SimpleNamespace
from typing import Any

import torch
from trl import GRPOTrainer
from trl.trainer.utils import add_fused_lm_head

Rows = Sequence[Sequence[int]]


def with_trl_head(model: Any, temperature: float) -> Any:
    """The model with an adapter, as TRL's trainer prepares it."""
    add_fused_lm_head(model.get_base_model(), temperature=temperature, outputs=("log_probs", "entropy"))
    return model


def scored_by_trl(
    model: Any,
    groups: Sequence[tuple[Sequence[int], Rows]],
    precision: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities and entropies of all completion tokens, by TRL's own function.

    A row a completion: prompts padded on the left and completions on the right, as the trainer has them.
    """
    prompts, prompt_mask = padded([prompt for prompt, group in groups for _ in group], left=True)
    completions, mask = padded([completion for _, group in groups for completion in group], left=False)
    trainer = SimpleNamespace(accelerator=SimpleNamespace(autocast=precision, is_main_process=True))
    logps, entropies, _ = GRPOTrainer._get_per_token_logps_and_entropies(
        trainer,
        model,
        torch.cat([prompts, completions], 1).to(model.device),
        torch.cat([prompt_mask, mask], 1).to(model.device),
        completions.shape[1],
        compute_entropy=True,
    )
    kept = mask.bool().to(model.device)
    return logps[kept], entropies[kept]


def padded(rows: Rows, *, left: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of ids as (B, T) tensors: the ids, and where they are."""
    longest = max(map(len, rows))
    pads = [[0] * (longest - len(row)) for row in rows]
    ids = [[*pad, *row] if left else [*row, *pad] for row, pad in zip(rows, pads, strict=True)]
    mask = [[*pad, *[1] * len(row)] if left else [*[1] * len(row), *pad] for row, pad in zip(rows, pads, strict=True)]
    return torch.tensor(ids), torch.tensor(mask)
