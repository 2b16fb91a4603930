"""Log-probabilities and rollouts of a group that compute the group's prompt once.

Personalised prompts are long and answers short. Stock GRPO computes the prompt again for each of the G completions of a
group; here the group is one packed sequence (`models.packing`), in which every completion token has exactly one
position that predicts it. Rollouts grow such a sequence: the keys and values of a prompt are there once, not G times,
and a row that has ended adds none.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from itertools import islice
from typing import Any, NamedTuple

import torch

from prlm_cli.models.growing_trees import GrowingTrees
from prlm_cli.models.packing import Tree, hidden_states, pack, transforms_logits, why_not_packed
from prlm_cli.training.token_logps import token_logps


class Scored(NamedTuple):
    """Of one completion's C tokens: log-probabilities and entropies, each (C,), in nats."""

    logps: torch.Tensor
    entropies: torch.Tensor


def why_not(model: Any) -> str:
    """Why the prompt of this model's groups cannot be shared; empty if it can."""
    if transforms_logits(model):
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


Draw = Callable[[torch.Tensor, Sequence[int]], Sequence[int]]
"""(R, V) logits of some rows, and the rows' numbers -> a token for each of them."""


class StreamSampling:
    """Draws as `generate` does: with the same seed the same tokens, and the same random numbers for what comes later.

    `generate` draws for all rows in each round, those that have ended included. So does this, with any distribution in
    place of theirs.

    Args:
        temperature: What the logits are divided by.
        rows: How many rows there were at first.
    """

    def __init__(self, temperature: float, rows: int) -> None:
        self._temperature = temperature
        self._rows = rows

    def __call__(self, logits: torch.Tensor, alive: Sequence[int]) -> list[int]:
        """A token for each row that goes on; see `Draw`."""
        scores = logits.float() / self._temperature
        probabilities = scores.new_ones(self._rows, scores.shape[1])
        probabilities[alive] = scores.softmax(-1)
        drawn: list[int] = torch.multinomial(probabilities, num_samples=1)[alive, 0].tolist()
        return drawn


@torch.no_grad()
def rollouts(
    model: Any,
    prompts: Sequence[Sequence[int]],
    group_size: int,
    *,
    draw: Draw,
    max_new_tokens: int,
    stop_ids: Collection[int],
) -> list[list[int]]:
    """Samples G completions of each prompt, its keys and values computed once; a row that has ended costs no more.

    Args:
        model: The policy.
        prompts: N lists of token ids.
        group_size: G.
        draw: How tokens are drawn, for rows numbered from 0 to N*G.
        max_new_tokens: Longest completion.
        stop_ids: Tokens that end a completion and belong to it.

    Returns:
        N*G completions, each prompt's G together.
    """
    trees = GrowingTrees(model, prompts, group_size)
    completions: list[list[int]] = [[] for _ in range(len(prompts) * group_size)]
    alive = {row: prompts[row // group_size][-1] for row in range(len(completions))}  # and the last token of each
    for _ in range(max_new_tokens):
        if not alive:
            break
        tokens = draw(trees.grow(alive), list(alive))
        for row, token in zip(alive, tokens, strict=True):
            completions[row].append(token)
        alive = {row: token for row, token in zip(alive, tokens, strict=True) if token not in stop_ids}
    return completions
