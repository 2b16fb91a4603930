"""Log-probabilities and rollouts of a group that compute the group's prompt once.

Personalised prompts are long and answers short. Stock GRPO computes the prompt again for each of the G completions of a
group; here the group is one packed sequence (`models.packing`), in which every completion token has exactly one
position that predicts it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any, NamedTuple

import torch

from prlm_cli.models.packing import Tree, hidden_states, pack, why_not_packed
from prlm_cli.models.prefill import prefill
from prlm_cli.training.token_logps import token_logps


class Scored(NamedTuple):
    """Of one completion's C tokens: log-probabilities and entropies, each (C,), in nats."""

    logps: torch.Tensor
    entropies: torch.Tensor


def why_not(model: Any) -> str:
    """Why the prompt of this model's groups cannot be shared; empty if it can."""
    config = model.config.get_text_config()
    if getattr(config, "final_logit_softcapping", None) or getattr(config, "logit_scale", None):
        return "its logits are transformed after the head"
    return why_not_packed(model)


def score_group(
    model: Any,
    prompt: Sequence[int],
    completions: Sequence[Sequence[int]],
    temperature: float,
    *,
    entropy_gradient: bool = False,
) -> list[Scored]:
    """Scores all completions of one prompt in one pass; see `score_groups`."""
    return score_groups(model, [(prompt, completions)], temperature, entropy_gradient=entropy_gradient)[0]


def score_groups(
    model: Any,
    groups: Sequence[tuple[Sequence[int], Sequence[Sequence[int]]]],
    temperature: float,
    *,
    entropy_gradient: bool = False,
) -> list[list[Scored]]:
    """Scores all completions of some prompts in one pass.

    Args:
        model: A causal language model, with or without an adapter; its gradient flows.
        groups: Prompts of P token ids, each with its G completions, lists of token ids of which none is empty.
        temperature: What the logits are divided by.
        entropy_gradient: Whether a gradient flows through the entropies, too.

    Returns:
        For each group G results, in order.
    """
    device = model.device
    trees = [Tree(prompt, [completion[:-1] for completion in completions]) for prompt, completions in groups]
    states = hidden_states(model, pack(trees, device=device))  # (B, L, D)
    # Only completion tokens pass the head.
    hidden = torch.cat([row[len(tree.prompt) - 1 : tree.length] for row, tree in zip(states, trees, strict=True)])
    flat = [completion for _, completions in groups for completion in completions]
    targets = torch.tensor([token for completion in flat for token in completion], device=device)
    head = model.get_output_embeddings()
    found = token_logps(hidden, head, targets, temperature, entropy_gradient=entropy_gradient)
    scored = map(Scored, *(torch.split(values, [len(completion) for completion in flat]) for values in found))
    return [list(islice(scored, len(completions))) for _, completions in groups]


@torch.no_grad()
def rollouts(
    model: Any, prompts: Sequence[Sequence[int]], group_size: int, *, pad_id: int, generation_config: Any
) -> torch.Tensor:
    """Samples G completions of each prompt, its keys and values computed once.

    Args:
        model: The policy.
        prompts: N lists of token ids.
        group_size: G.
        pad_id: What shorter prompts are padded with on the left.
        generation_config: Sampling, length, end tokens.

    Returns:
        (N*G, C) completion ids, each prompt's G rows together.
    """
    longest = max(map(len, prompts))
    rows = [[pad_id] * (longest - len(ids)) + list(ids) for ids in prompts]
    mask = [[0] * (longest - len(ids)) + [1] * len(ids) for ids in prompts]
    input_ids = torch.tensor(rows, device=model.device)  # (N, P)
    attention_mask = torch.tensor(mask, device=model.device)
    copies = torch.arange(len(rows), device=model.device).repeat_interleave(group_size)
    output = model.generate(
        input_ids=input_ids[copies],
        attention_mask=attention_mask[copies],
        **prefill(model, input_ids, attention_mask, copies),
        generation_config=generation_config,
    )
    completion_ids: torch.Tensor = output[:, longest:]  # (N*G, C)
    return completion_ids
