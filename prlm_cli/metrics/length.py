"""How long the answer is."""

from __future__ import annotations

from prlm_cli.core.records import Generation


def length(generation: Generation) -> float:
    """Words of the answer, from 0 up; neither more nor fewer is better. 0 where there is no answer."""
    return float(len((generation.answer or "").split()))
