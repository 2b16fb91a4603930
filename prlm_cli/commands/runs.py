"""`prlm runs`, `prlm runs show` and `prlm runs rm`."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from prlm_cli import ui
from prlm_cli.commands import options
from prlm_cli.core.errors import SettingsError, StorageError
from prlm_cli.core.workspace import Run, Workspace

app = options.new_app()
_HEADER = ["run", "kind", "state", "started", "metrics"]
# The metrics that the listing shows, of whichever a run has.
_KEY_METRICS = {
    "gate": "gate",
    "interaction.mean": "interaction",
    "best_heldout": "held-out",
    "best_step": "best step",
    "reward_last_quarter": "reward",
    "stopped_by": "stopped by",
    "examples": "examples",
}

# After a subcommand these default to what was given before it: `prlm runs -w DIR show X` and `prlm runs show X -w DIR`.
_OwnWorkspace = Annotated[Path | None, typer.Option("-w", "--workspace", help="Workspace folder.", show_default=False)]
_RunArgument = Annotated[str, typer.Argument(metavar="NAME", help="A run; `prlm runs` lists them.", show_default=False)]


@app.callback(invoke_without_command=True)
def runs(
    context: typer.Context,
    workspace: options.WorkspaceDir = options.DEFAULT_WORKSPACE,
    json: options.Json = False,
) -> None:
    """List, show and remove the runs of a workspace.

    Without a subcommand, lists them, oldest first.

    Example: prlm runs
    Example: prlm runs show policy-1 --json
    """
    if context.invoked_subcommand:
        return
    where = options.open_workspace(workspace)
    found, damaged = where.sound_and_damaged_runs()
    for run in damaged:
        ui.note(f"run {ui.visible(run.name)} is damaged; `prlm runs rm` removes it")
    if json:
        ui.print_json([_facts(where, run) for run in found])
    elif found:
        ui.print_table(_HEADER, [_row(where, run) for run in found])
    else:
        ui.note(f"no runs in {ui.visible(str(where.folder))}")


@app.command()
def show(
    context: typer.Context,
    name: _RunArgument,
    workspace: _OwnWorkspace = None,
    json: options.Json = False,
) -> None:
    """Show a run's state, metrics and configuration.

    Example: prlm runs show policy-1
    Example: prlm runs show reward-1 --json
    """
    where = options.open_workspace(workspace or _before(context, "workspace"))
    run = where.run(name)
    facts = _facts(where, run)
    if json or _before(context, "json"):
        ui.print_json({**facts, "config": tomllib.loads(run.config)})
        return
    ui.print_table(["run", run.name], _flatten({key: facts[key] for key in ("kind", "state")} | _shown_state(run)))
    # The diagnostics of a reward model are hundreds of figures: they are for --json and the run's report.html.
    if metrics := {key: value for key, value in facts["metrics"].items() if key != "diagnostics"}:
        ui.print_line()
        ui.print_table(["metric", ""], _flatten(metrics))
    ui.print_line()
    ui.print_line(run.config, end="")


@app.command()
def rm(
    context: typer.Context,
    name: _RunArgument,
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Remove without asking.")] = False,
    workspace: _OwnWorkspace = None,
    json: options.Json = False,
) -> None:
    """Remove a run with its adapter, checkpoints and logs.

    Example: prlm runs rm policy-1
    Example: prlm runs rm policy-1 --yes
    """
    where = options.open_workspace(workspace or _before(context, "workspace"))
    run = where.run(name)
    if where.is_locked(run.name):
        raise StorageError(f"run '{run.name}' is being trained", hint="end that first")
    if not yes and not _agrees(run):
        raise typer.Exit(1)
    with where.write_lock(run.name):  # nobody goes on with it meanwhile
        where.remove(run)
    if json or _before(context, "json"):
        ui.print_json({"removed": run.name})
    else:
        ui.note(f"removed {run.name}")


def _before(context: typer.Context, name: str) -> Any:
    """A flag as it was given before the subcommand."""
    assert context.parent
    return context.parent.params[name]


def _agrees(run: Run) -> bool:
    if not sys.stdin.isatty():
        raise SettingsError(f"run '{run.name}' is not removed unasked", hint="add --yes")
    return typer.confirm(f"Remove {run.folder} with all that it holds?", err=True)


def _facts(where: Workspace, run: Run) -> dict[str, Any]:
    """What `--json` says of a run."""
    state = run.state
    return {
        "name": run.name,
        "kind": "warm start" if state.get("is_warm_start") else state["kind"],
        "state": _status(where, run),
        "started": state["started"],
        "finished": state.get("finished"),
        "folder": str(run.folder),
        "facts": {key: value for key, value in state.items() if key not in ("kind", "status", "started", "finished")},
        "metrics": run.metrics,
    }


def _status(where: Workspace, run: Run) -> str:
    """finished, running, or interrupted: its process ended before the run did."""
    return "finished" if run.is_finished else "running" if where.is_locked(run.name) else "interrupted"


def _row(where: Workspace, run: Run) -> list[str]:
    facts = _facts(where, run)
    metrics = dict(_flatten(facts["metrics"]))
    key_metrics = ", ".join(f"{label} {metrics[key]}" for key, label in _KEY_METRICS.items() if key in metrics)
    return [run.name, facts["kind"], facts["state"], _minute(facts["started"]), key_metrics]


def _shown_state(run: Run) -> dict[str, Any]:
    """The rest of the state for people: users are counted, and what was not made use of is left out."""
    state = run.state
    shown = {key: _minute(state[key]) for key in ("started", "finished") if key in state}
    others = {key: value for key, value in state.items() if key not in (*shown, "kind", "status", "is_warm_start")}
    return shown | {
        key.replace("_", " "): f"{len(value)} users" if isinstance(value, list) else value
        for key, value in others.items()
        if value is not None
    }


def _flatten(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, f"{value:.4g}" if isinstance(value, float) else str(value)


def _minute(time: str) -> str:
    """A time of a run's state (ISO 8601, UTC) to the minute."""
    return time[:16].replace("T", " ")
