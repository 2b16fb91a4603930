"""Whether no answer could be read from the completion."""

from __future__ import annotations

from prlm_cli.core.records import Generation


def extract_fail(generation: Generation) -> float:
    """1.0 where no answer could be read from the completion, else 0.0; lower is better."""
    return float(generation.answer is None)
