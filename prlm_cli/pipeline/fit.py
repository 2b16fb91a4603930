"""Makes a policy training fit a card: the fastest of the settings that do, without changing what a step learns from.

Smaller passes and gradient checkpointing leave the optimiser's step as it is. Prompts and completions are cut only
where nothing else is enough. The precision of the weights is the user's choice.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import structs

from prlm_cli.core.errors import OutOfMemoryError, SettingsError
from prlm_cli.core.settings import Config
from prlm_cli.models.shapes import Shape
from prlm_cli.pipeline.memory import (
    GIB,
    DeviceKind,
    checkpoints,
    completion_tokens,
    memory_of,
    tokens_of_step,
)

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:g|gb|gib)?", re.IGNORECASE)
_SHARES = (1.0, 0.75, 0.5, 0.25)  # of the lengths, tried in this order
_SHORTEST_PROMPT = 64  # the least that prompt.max_tokens may be
# Passes over a token: forward, and twice that backward; checkpointing runs the layers forward again (Chen et al.,
# arXiv 1604.06174).
_PASSES, _PASSES_CHECKPOINTED = 3, 4


def size_of_card(text: str) -> float:
    """The bytes that "8gb" or "12" names; makers of cards count 2**30 to a GB.

    Raises:
        SettingsError: If it names no size.
    """
    found = _SIZE.fullmatch(text.strip())
    if not found or not float(found[1]):
        raise SettingsError(f"'{text}' is no size of a card", hint="write it as 8gb")
    return float(found[1]) * GIB


def fit(shape: Shape, config: Config, limit: float, device: DeviceKind, processes: int = 1) -> Config:
    """The configuration with the passes, and if need be the lengths, that fit.

    Args:
        shape: Of the base model.
        config: The resolved settings; returned as they are if they fit.
        limit: Bytes.
        device: What it is to run on.
        processes: How many there are, each with a device of its own.

    Raises:
        OutOfMemoryError: If nothing of this is enough.
        MissingError: If the reward model's configuration is nowhere to be had.
    """
    for candidate in (config, *_candidates(shape, config, device)):
        if fitted := _with_smaller_passes(shape, candidate, limit, device, processes):
            return fitted
    smallest = structs.replace(
        config,
        warm_start=structs.replace(config.warm_start, micro_batch=1),
        generation=structs.replace(config.generation, batch_size=1),
    )
    candidates = _candidates(shape, smallest, device)
    least = min(memory_of(shape, candidate, device, processes).peak for candidate in candidates)
    raise OutOfMemoryError(
        f"{config.model.name} takes {least / GIB:.1f} GiB at the least, {limit / GIB:g} are there",
        hint="use a smaller model" if config.model.qlora else "try --qlora or a smaller model",
    )


def changes(before: Config, after: Config) -> list[str]:
    """The assignments that make one configuration of another, as `--set` takes them."""
    old, new = _flat(msgspec.to_builtins(before)), _flat(msgspec.to_builtins(after))
    return [
        f"{key}={str(value).lower() if isinstance(value, bool) else value}"
        for key, value in new.items()
        if old[key] != value
    ]


def _candidates(shape: Shape, config: Config, device: DeviceKind) -> Iterator[Config]:
    """All settings to try: longest first, and of the same lengths the fastest first."""
    settings: list[Any] = [config.policy.gradient_checkpointing]
    if settings == ["auto"]:
        settings.append("off" if checkpoints(config.policy, device) else "on")
    for share in _SHARES:
        shorter = _shortened(config, share)
        found = [
            _with_policy(shorter, micro_batch_tokens=tokens, gradient_checkpointing=setting)
            for tokens in _passes(shape, shorter)
            for setting in settings
        ]
        yield from sorted(found, key=lambda candidate: _work(shape, candidate, device))


def _passes(shape: Shape, config: Config) -> list[int | None]:
    """What a pass may have, largest first: what it has now, then a group in more and more even parts."""
    prompt, completion, group = config.prompt.max_tokens, completion_tokens(config), config.policy.num_generations
    now = config.policy.micro_batch_tokens
    sizes = sorted({math.ceil(group / parts) for parts in range(1 if now else 2, group + 1)}, reverse=True)
    tokens = [prompt - 1 + n * completion if shape.packs else n * (prompt + completion) for n in sizes]
    return [now, *(one for one in tokens if now is None or one < now)]


def _work(shape: Shape, config: Config, device: DeviceKind) -> float:
    """Tokens through the layers in one step of the optimiser, each time they pass."""
    passes = _PASSES_CHECKPOINTED if checkpoints(config.policy, device) else _PASSES
    return tokens_of_step(shape, config) * passes


def _with_smaller_passes(
    shape: Shape, config: Config, limit: float, device: DeviceKind, processes: int
) -> Config | None:
    """The configuration, its warm start and its held-out answers in passes that fit; None if the rest does not."""
    while (memory := memory_of(shape, config, device, processes)).peak > limit:
        warm, generation = config.warm_start, config.generation
        is_star = memory.busiest == "star samples"
        rows = generation.batch_size if is_star else min(generation.batch_size, config.policy.eval_queries)
        if memory.busiest == "warm start" and (smaller := _next_divisor(warm.batch_size, warm.micro_batch)):
            config = structs.replace(config, warm_start=structs.replace(warm, micro_batch=smaller))
        elif memory.busiest in ("held-out answers", "star samples") and rows > 1:
            config = structs.replace(config, generation=structs.replace(generation, batch_size=rows // 2))
        else:
            return None
    return config


def _next_divisor(whole: int, part: int | None) -> int | None:
    return next((n for n in range((part or whole) - 1, 0, -1) if whole % n == 0), None)


def _shortened(config: Config, share: float) -> Config:
    if share == 1:
        return config
    prompt = max(_SHORTEST_PROMPT, int(share * config.prompt.max_tokens))
    shorter = structs.replace(config, prompt=structs.replace(config.prompt, max_tokens=prompt))
    return _with_policy(shorter, max_new_tokens=max(1, int(share * completion_tokens(config))))


def _with_policy(config: Config, **fields: Any) -> Config:
    return structs.replace(config, policy=structs.replace(config.policy, **fields))


def _flat(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The settings by their whole names; a section's own tables stay whole."""
    found: dict[str, Any] = {}
    for name, value in table.items():
        if isinstance(value, dict) and not prefix:
            found |= _flat(value, f"{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found
