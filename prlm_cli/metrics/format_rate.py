"""Whether the completion has the form that was asked for."""

from __future__ import annotations

from prlm_cli.core.records import Generation


def format_rate(generation: Generation) -> float:
    """1.0 for a readable answer and, where the completion reasons, a thought that is not empty; else 0.0.

    Higher is better.
    """
    is_thought_empty = generation.reasoning is not None and not generation.reasoning.strip()
    return float(generation.answer is not None and not is_thought_empty)
