"""What the reward model said, where `prlm score` asked it."""

from __future__ import annotations

from prlm_cli.core.records import Generation


def reward(generation: Generation) -> float | None:
    """The reward model's opinion of the answer, in [0, 1], higher is better; None where it was not asked.

    It was trained to say so, and a policy may have been trained by it: no measure of quality by itself.
    """
    return generation.reward
