"""`prlm plan`: the memory and time of a policy training before it starts, and what to set for a card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from msgspec import structs

from prlm_cli.core.errors import OutOfMemoryError, SettingsError
from prlm_cli.core.reporting import Reporter, Silent
from prlm_cli.core.settings import Config
from prlm_cli.models.loading import device_and_dtype
from prlm_cli.models.shapes import Shape, shape_of
from prlm_cli.pipeline.fit import changes, fit
from prlm_cli.pipeline.memory import GIB, DeviceKind, Memory, memory_of, precision_of
from prlm_cli.pipeline.pace import Duration, calibrate, duration_of

CARDS = tuple(size * GIB for size in (8.0, 12.0, 16.0, 24.0))
"""The sizes of consumer cards, in bytes."""


@dataclass(frozen=True)
class Card:
    """What a training takes on a card of that many bytes, and the settings that make it fit; None if nothing does."""

    size: float
    peak: float | None
    settings: list[str] | None


@dataclass(frozen=True)
class Plan:
    """A training before it starts; bytes of one process by device, in the precision that weights have on it."""

    model: str
    parameters: int
    processes: int
    shares_prompts: bool
    precision: dict[DeviceKind, str]
    memory: dict[DeviceKind, Memory]
    cards: list[Card]
    duration: Duration | None

    def as_dict(self) -> dict[str, Any]:
        """The plan as JSON has it; bytes are whole, seconds are not."""
        return {
            "model": self.model,
            "parameters": self.parameters,
            "processes": self.processes,
            "shares_prompts": self.shares_prompts,
            "precision": self.precision,
            "memory": {device: _as_dict(memory) for device, memory in self.memory.items()},
            "cards": [
                {"bytes": round(card.size), "peak": card.peak and round(card.peak), "settings": card.settings}
                for card in self.cards
            ],
            "seconds": {**self.duration._asdict(), "total": self.duration.total} if self.duration else None,
        }


def plan(
    config: Config,
    *,
    cards: Sequence[float] = CARDS,
    processes: int = 1,
    measure_pace: bool = False,
    reporter: Reporter | None = None,
) -> Plan:
    """The plan of `train-policy` with these settings; weights are loaded only to measure the pace.

    Args:
        config: The resolved settings.
        cards: Sizes of cards to fit it on, in bytes.
        processes: How many there are, each on a card of its own.
        measure_pace: Calibrate on this machine, for the time of a run in one process.
        reporter: Told about progress.

    Raises:
        MissingError: If a model's configuration is nowhere to be had, or the model is not here to calibrate with.
        SettingsError: If the model is no causal language model, or one process is to share its base.
    """
    _check(config, processes)
    shape = shape_of(config.model.name)
    devices: list[DeviceKind] = [device_here()]
    if "cuda" not in devices:
        devices.append("cuda")
    pace = calibrate(config, reporter or Silent()) if measure_pace else None
    return Plan(
        model=config.model.name,
        parameters=shape.parameters,
        processes=processes,
        shares_prompts=shape.packs,
        precision={device: precision_of(config, device) for device in devices},
        memory={device: memory_of(shape, config, device, processes) for device in devices},
        cards=[_card(shape, config, size, processes) for size in cards],
        duration=duration_of(shape, config, pace) if pace else None,
    )


def fitted(config: Config, limit: float, device: DeviceKind | None = None, processes: int = 1) -> Config:
    """The configuration made to fit.

    Args:
        config: The resolved settings.
        limit: Bytes.
        device: What it is to run on; default: the one here.
        processes: How many there are, each on a device of its own.

    Raises:
        OutOfMemoryError: If it cannot be.
        MissingError: If a model's configuration is nowhere to be had.
        SettingsError: If one process is to share its base.
    """
    _check(config, processes)
    return fit(shape_of(config.model.name), config, limit, device or device_here(), processes)


def device_here() -> DeviceKind:
    """The kind of device that models are loaded on here."""
    return "cpu" if device_and_dtype()[0] == "cpu" else "cuda"


def _check(config: Config, processes: int) -> None:
    if config.policy.shard_base and processes == 1:
        raise SettingsError("policy.shard_base needs several processes", hint="say how many: --processes 2")


def _card(shape: Shape, config: Config, size: float, processes: int) -> Card:
    """Fitted as it is, or else with 4-bit weights, which are not in parts."""
    quantised = structs.replace(
        config,
        model=structs.replace(config.model, qlora=True),
        policy=structs.replace(config.policy, shard_base=False),
    )
    for candidate in (config, quantised):
        try:
            found = fit(shape, candidate, size, "cuda", processes)
        except OutOfMemoryError:
            continue
        return Card(size, memory_of(shape, found, "cuda", processes).peak, changes(config, found))
    return Card(size, None, None)


def _as_dict(memory: Memory) -> dict[str, Any]:
    return {
        "lasting": {part: round(size) for part, size in memory.lasting.items()},
        "phases": {
            phase: {part: round(size) for part, size in parts.items()} for phase, parts in memory.phases.items()
        },
        "overhead": round(memory.overhead),
        "peak": round(memory.peak),
    }
