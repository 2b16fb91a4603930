"""Rollouts of one group: how much faster ours are, and whether they are the tokens that stock `generate` draws."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.bench.figures import Figures, cpu_timed, interleaved, ratio
from tests.bench.training_parts.sides import SIZES, Size, drawn_by_stock, drawn_by_us, embedded_policy, random_group

_ENDS_ONCE_IN = 24  # tokens, on average, where rows end at different times


def measure_rollouts(figures: Figures, rounds: int, model: Any = None, sizes: Sequence[Size] = SIZES) -> None:
    """Adds the speed at each size with rows of full length, and at the first with two prompts whose rows are ragged."""
    model = model or embedded_policy()
    vocabulary = model.config.vocab_size
    for size in sizes:
        _add_speed(figures, rounds, size.name, model, [random_group(size, vocabulary).prompt], size, [])
    first = sizes[0]
    prompts = [random_group(first, vocabulary - n).prompt for n in range(2)]
    stops = list(range(0, vocabulary, _ENDS_ONCE_IN))
    _add_speed(figures, rounds, f"ragged_{first.name}", model, prompts, first, stops)


def _add_speed(
    figures: Figures, rounds: int, name: str, model: Any, prompts: list[list[int]], size: Size, stop_ids: list[int]
) -> None:
    rows: dict[str, list[list[int]]] = {}

    def draw(side: str) -> None:
        rows[side] = {"ours": drawn_by_us, "stock": drawn_by_stock}[side](model, prompts, size, stop_ids)

    taken = interleaved(rounds, {side: cpu_timed(lambda side=side: draw(side)) for side in ("ours", "stock")})
    tokens = sum(map(len, rows["ours"]))
    for side, seconds in taken.items():
        figures.add(f"rollout_tokens_per_s_{side}_{name}", tokens / min(seconds), "tokens/s")
    figures.add(f"rollout_speedup_{name}", ratio(taken["stock"], taken["ours"]), "x")
    figures.add(f"rollout_same_rows_{name}", _share_of_same(rows["ours"], rows["stock"]), "share")


def _share_of_same(ours: list[list[int]], stock: list[list[int]]) -> float:
    return sum(a == b for a, b in zip(ours, stock, strict=True)) / len(stock)
