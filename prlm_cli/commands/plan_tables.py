"""How a plan is printed: by `plan`, and below the configuration in a dry run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from prlm_cli import ui

if TYPE_CHECKING:
    from prlm_cli.core.settings import Config
    from prlm_cli.pipeline.plan import Card, Plan

_GIB = 2**30
_DEVICES = {"cpu": "CPU", "cuda": "GPU"}


def print_dry_run(config: Config, *, as_json: bool, stages: Sequence[str] | None = None) -> None:
    """The resolved configuration, as a configuration file, with its plan in comments; stages are those of a recipe."""
    import tomllib

    from prlm_cli.core.configuration import to_toml

    toml, plan = to_toml(config), _plan_or_note(config)
    if as_json:
        of_recipe = {"stages": stages} if stages else {}
        ui.print_json({**of_recipe, "config": tomllib.loads(toml), "plan": plan and plan.as_dict()})
        return
    if stages:
        ui.print_line(f"# stages: {', '.join(stages)}")
    ui.print_line(toml, end="")
    if plan:
        ui.print_line()
        print_plan(plan, prefix="# ")


def _plan_or_note(config: Config) -> Plan | None:
    """The plan; None where the model's configuration cannot be had or planned for, which is no reason to stop."""
    from prlm_cli.core.errors import PrlmError
    from prlm_cli.core.ranks import world_size
    from prlm_cli.pipeline.plan import plan

    try:
        return plan(config, processes=world_size())
    except PrlmError as error:
        ui.note(f"no plan: {error}")
        return None


def print_plan(plan: Plan, settings: Sequence[str] = (), *, prefix: str = "") -> None:
    """Memory by part, the cards, the time, and the settings that were chosen to fit; each line behind the prefix."""
    of_several = f", each of {plan.processes} processes" if plan.processes > 1 else ""
    ui.print_table(
        [
            f"{plan.model}, {plan.parameters / 1e6:,.0f} M{of_several}",
            *(f"{_DEVICES[device]}, {plan.precision[device]}" for device in plan.memory),
        ],
        _rows(plan),
        prefix=prefix,
    )
    ui.print_line(prefix.rstrip())
    ui.print_table(["card", "GiB", "settings"], [_card(card) for card in plan.cards], prefix=prefix)
    if settings:
        ui.print_line(f"\nchosen to fit: {_flags(settings)}")
    if plan.duration:
        parts = ", ".join(
            f"{name.replace('_', ' ')} {ui.duration(seconds)}" for name, seconds in plan.duration._asdict().items()
        )
        ui.print_line(f"\ntime here, at most: {ui.duration(plan.duration.total)} ({parts})")


def _rows(plan: Plan) -> Iterator[list[str]]:
    memories = list(plan.memory.values())
    first = memories[0]
    for part in first.lasting:
        yield [part, *(_gib(memory.lasting[part]) for memory in memories)]
    for phase, parts in first.phases.items():
        for part in parts:
            yield [f"{phase}: {part}", *(_gib(memory.phases[phase][part]) for memory in memories)]
    yield ["the device's own", *(_gib(memory.overhead) for memory in memories)]
    yield ["at its peak, GiB", *(f"{_gib(memory.peak)} ({memory.busiest})" for memory in memories)]


def _card(card: Card) -> list[str]:
    if card.peak is None or card.settings is None:
        return [f"{card.size / _GIB:g} GB", "", "does not fit"]
    return [f"{card.size / _GIB:g} GB", _gib(card.peak), _flags(card.settings) or "fits as it is"]


def _flags(settings: Sequence[str]) -> str:
    return " ".join("--qlora" if setting == "model.qlora=true" else f"--set {setting}" for setting in settings)


def _gib(size: float) -> str:
    return f"{size / _GIB:.2f}" if size else ""
