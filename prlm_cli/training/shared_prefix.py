"""Log-probabilities and rollouts of a group that compute the group's prompt once.

Personalised prompts are long and answers short. Stock GRPO computes the prompt again for each of the G completions of a
group; here the group is one sequence, with a mask that lets every completion see the prompt and itself only:

    tokens    p_0 … p_{P-2} | p_{P-1} c1_1 … c1_{C-1} | p_{P-1} c2_1 … c2_{C-1} | …
    position  0   … P-2     | P-1     P   …           | P-1     P   …           |

Each completion repeats the last prompt token, so every completion token has exactly one position that predicts it. A
position's hidden state depends on the keys it sees and their positions alone, so the values equal those of separate
rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from prlm_cli.models.prefill import backbone, prefill


class Scored(NamedTuple):
    """Of one completion's C tokens: log-probabilities and entropies, each (C,), in nats."""

    logps: torch.Tensor
    entropies: torch.Tensor


def why_not(model: Any) -> str:
    """Why the prompt of this model's groups cannot be shared; empty if it can."""
    config = model.config.get_text_config()
    if getattr(config, "_attn_implementation", "") not in ("sdpa", "eager"):
        return "its attention takes no arbitrary mask"
    if set(getattr(config, "layer_types", None) or ["full_attention"]) != {"full_attention"}:
        return "not all of its layers attend to the whole context"
    if getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True):
        return "its attention slides"
    if getattr(config, "final_logit_softcapping", None) or getattr(config, "logit_scale", None):
        return "its logits are transformed after the head"
    return ""


def score_group(
    model: Any, prompt: Sequence[int], completions: Sequence[Sequence[int]], temperature: float
) -> list[Scored]:
    """Scores all completions of one prompt in one pass.

    Args:
        model: A causal language model, with or without an adapter; its gradient flows.
        prompt: P token ids.
        completions: G lists of token ids, none empty.
        temperature: What the logits are divided by.

    Returns:
        G results, in order.
    """
    device = model.device
    prefix = len(prompt) - 1
    tokens, positions, segments = list(prompt[:-1]), list(range(prefix)), [-1] * prefix
    for number, completion in enumerate(completions):
        tokens += [prompt[-1], *completion[:-1]]
        positions += range(prefix, prefix + len(completion))
        segments += [number] * len(completion)
    hidden = backbone(
        model
    )(
        input_ids=torch.tensor([tokens], device=device),  # (1, L), L = P - 1 + sum of completion lengths
        attention_mask=_mask(model, torch.tensor(segments, device=device)),
        position_ids=torch.tensor([positions], device=device),
        use_cache=False,
    ).last_hidden_state[0, prefix:]  # (L - P + 1, D): only completion tokens pass the head
    logits = model.get_output_embeddings()(hidden).float() / temperature
    all_logps = logits.log_softmax(-1)  # (L - P + 1, V)
    targets = torch.tensor([token for completion in completions for token in completion], device=device)
    logps = all_logps.gather(-1, targets[:, None])[:, 0]
    entropies = -(all_logps.detach().exp() * all_logps.detach()).sum(-1)
    lengths = [len(completion) for completion in completions]
    return [Scored(*pair) for pair in zip(logps.split(lengths), entropies.split(lengths), strict=True)]


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


def _mask(model: Any, segments: torch.Tensor) -> torch.Tensor:
    """(1, 1, L, L): who may see whom; added to the scores for eager attention, boolean for sdpa."""
    length = len(segments)
    causal = torch.ones(length, length, dtype=torch.bool, device=segments.device).tril()
    allowed = causal & ((segments[None, :] == -1) | (segments[None, :] == segments[:, None]))
    if model.config.get_text_config()._attn_implementation == "sdpa":
        return allowed[None, None]
    dtype = model.dtype
    return torch.zeros(length, length, dtype=dtype, device=segments.device).masked_fill(
        ~allowed, torch.finfo(dtype).min
    )[None, None]
