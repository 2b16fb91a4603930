"""`prlm run`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prlm_cli import ui
from prlm_cli.commands import options
from prlm_cli.commands.kinds_of_eval.generations import print_evaluation
from prlm_cli.commands.plan_tables import print_dry_run

if TYPE_CHECKING:
    from prlm_cli.pipeline.run import Done

app = options.new_app()


@app.command()
def run(
    recipe: Annotated[
        Path, typer.Argument(metavar="RECIPE.toml", help="A recipe, or a run's config.toml.", show_default=False)
    ],
    workspace: options.WorkspaceDir = options.DEFAULT_WORKSPACE,
    first: Annotated[
        str | None, typer.Option("--from", metavar="STAGE", help="Begin here, and do again what is done.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print stages, settings and plan, and do nothing.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Go through the stages of a recipe, without those that are done.

    Stages are train-reward, train-policy and eval. What was done with the same settings, on the training queries and
    records that the index holds now, is not done again; what was broken off goes on. A run's config.toml repeats it.

    Example: prlm run recipes/cpu.toml
    Example: prlm run recipes/lamp4-8gb.toml --dry-run
    Example: prlm run .prlm/runs/policy-1/config.toml
    """
    where = options.open_workspace(workspace)
    from prlm_cli.pipeline.run import load_recipe
    from prlm_cli.pipeline.run import run as go

    loaded = load_recipe(recipe, first)
    if dry_run:
        print_dry_run(loaded.config, stages=loaded.stages, as_json=json)
        return
    on_done = None if json else _print_done
    done = go(where, loaded, again=first is not None, reporter=ui.Terminal(), on_done=on_done)
    if json:
        ui.print_json([_as_dict(stage) for stage in done])


def _print_done(done: Done) -> None:
    if done.evaluation:
        print_evaluation(done.evaluation)
    else:
        ui.note(f"{done.stage}: {done.run}{'' if done.is_new else ' from an earlier time'}")


def _as_dict(done: Done) -> dict[str, Any]:
    evaluation = done.evaluation.as_dict() if done.evaluation else None
    return {"stage": done.stage, "run": done.run, "is_new": done.is_new, "evaluation": evaluation}
