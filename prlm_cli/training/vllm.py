"""Rollouts by vLLM, in the process of the trainer and on its GPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prlm_cli.core.settings import PolicySettings


def vllm_options(settings: PolicySettings, *, max_tokens: int, stop_ids: Sequence[int]) -> dict[str, Any]:
    """What TRL has to know where vLLM writes the rollouts; nothing where it does not.

    Args:
        settings: Who writes the rollouts.
        max_tokens: Of the longest prompt with the longest completion.
        stop_ids: Tokens that end a completion.
    """
    if settings.rollouts != "vllm":
        return {}
    return {
        "use_vllm": True,
        "vllm_mode": "colocate",
        "vllm_max_model_length": max_tokens,
        "generation_kwargs": {"stop_token_ids": list(stop_ids)},
    }
