"""`prlm eval --controls`, `--sweep`, `--attack` and `--baseline`: a policy's answers under changed prompts."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import structs, to_builtins

from prlm_cli import ui
from prlm_cli.commands import options
from prlm_cli.commands.flags import Layers
from prlm_cli.commands.kinds_of_eval.delivery import Delivery
from prlm_cli.core.errors import SettingsError

if TYPE_CHECKING:
    from prlm_cli.core.records import Retrieved
    from prlm_cli.core.reporting import Reporter
    from prlm_cli.core.settings import Config
    from prlm_cli.core.store import Store
    from prlm_cli.core.workspace import Workspace
    from prlm_cli.metrics.intervals import Interval
    from prlm_cli.pipeline.attacks import Change
    from prlm_cli.pipeline.conditions import Conditions
    from prlm_cli.pipeline.policies import ChosenPolicy

_METRICS = ["rougeL", "rouge1", "copy_rate"]
_ALL = "all"


@dataclass(frozen=True)
class Asked:
    """What is to be measured, of which policy and which queries; `values` is what the kind's own flag says."""

    kind: str
    values: str
    policy: str | None
    split: str
    source: Path | None
    metrics: list[str] | None


@dataclass(frozen=True)
class _Found:
    """The conditions, and what they say: gains on the first metric, and what each attack did to the answers."""

    conditions: Conditions
    gains: dict[str, Interval] = field(default_factory=dict)
    changes: dict[str, Change] = field(default_factory=dict)


def measure_conditions(layers: Layers, folder: Path, asked: Asked, delivery: Delivery) -> None:
    """Writes and scores a policy's answers in all conditions of a kind."""
    from prlm_cli.pipeline.conditions_report import html_report
    from prlm_cli.pipeline.policies import choose_policy
    from prlm_cli.pipeline.sources import retrieved_from

    workspace, reporter = options.open_workspace(folder), ui.Terminal()
    chosen = choose_policy(workspace, asked.policy, layers.resolve, reporter)
    config = structs.replace(chosen.config, eval=structs.replace(chosen.config.eval, metrics=asked.metrics or _METRICS))
    _check(asked, config)
    queries = list(retrieved_from(workspace, config, path=asked.source, split=asked.split, user_id=None, text=None))
    if given := [query.query_id for query in queries if query.profile_user_id is not None]:
        raise SettingsError(f"query '{given[0]}' has another user's records", hint="give queries with their own")
    with workspace.open_store() as store:
        found = _measured(workspace, store, queries, asked, chosen, config, reporter)
    summary: dict[str, Any] = {
        **found.conditions.as_dict(),
        "gains": to_builtins(found.gains),
        "changes": to_builtins(found.changes),
    }
    delivery.result(summary, found.conditions.records(), lambda: _print(found, config, delivery))
    reference, results = found.conditions.reference, found.conditions.results
    delivery.page(lambda: html_report(f"prlm eval {asked.kind}", reference, results, found.gains, config))


def _check(asked: Asked, config: Config) -> None:
    """Refuses what cannot be measured before anything is retrieved or loaded."""
    from prlm_cli.metrics import METRICS
    from prlm_cli.pipeline.sweep import combinations

    for metric in config.eval.metrics:
        METRICS[metric]
    if asked.kind == "--baseline":
        options.choice("--baseline", asked.values, ["best"])
    elif asked.kind == "--sweep":
        combinations(asked.values, config)


def _measured(
    workspace: Workspace,
    store: Store,
    queries: list[Retrieved],
    asked: Asked,
    chosen: ChosenPolicy,
    config: Config,
    reporter: Reporter,
) -> _Found:
    from prlm_cli.pipeline.attacks import ATTACKS, REFERENCE, attacks, changes
    from prlm_cli.pipeline.baseline import against_best_untrained
    from prlm_cli.pipeline.completion_cache import completion_cache
    from prlm_cli.pipeline.conditions import run_conditions
    from prlm_cli.pipeline.controls import gains, run_controls
    from prlm_cli.pipeline.sweep import combinations, reference_of, sweep

    if asked.kind == "--baseline":
        return _Found(against_best_untrained(workspace, store, queries, chosen, config, reporter))
    if asked.kind == "--sweep":
        swept = combinations(asked.values, config)
        conditions, reference = list(sweep(swept, store, queries)), reference_of(swept, config)
    elif asked.kind == "--attack":
        names = list(ATTACKS) if asked.values in ("", _ALL) else [name.strip() for name in asked.values.split(",")]
        conditions, reference = attacks(store, queries, names, config), REFERENCE
    policy = chosen.load(reporter)
    with completion_cache(workspace, policy, reporter) as cache:
        if asked.kind == "--controls":
            controlled = run_controls(store, queries, policy, config, reporter=reporter, cache=cache)
            return _Found(controlled, gains(controlled, config.eval.metrics[0]))
        found = run_conditions(conditions, reference, policy, config, reporter=reporter, cache=cache)
    return _Found(found, changes=changes(found, config) if asked.kind == "--attack" else {})


def _print(found: _Found, config: Config, delivery: Delivery) -> None:
    from prlm_cli.pipeline.conditions_report import change_table, condition_table, gain_table

    ui.note(f"each condition is compared with {ui.visible(found.conditions.reference)}")
    for number, metric in enumerate(config.eval.metrics):
        if number:
            ui.print_line()
        delivery.table(condition_table(found.conditions.results, metric))
    for table in (gain_table(found.gains, config.eval.metrics[0]), change_table(found.changes)):
        if table.rows:
            ui.print_line()
            delivery.table(table)
