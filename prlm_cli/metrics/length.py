"""How long the answer and the reasoning are."""

from __future__ import annotations

from prlm_cli.core.records import Generation


def length(generation: Generation) -> float:
    """Words of the answer, from 0 up; neither more nor fewer is better. 0 where there is no answer."""
    return float(len((generation.answer or "").split()))


def reasoning_length(generation: Generation) -> float | None:
    """Words of the reasoning, from 0 up; neither more nor fewer is better. None where the policy did not reason."""
    return None if generation.reasoning is None else float(len(generation.reasoning.split()))
