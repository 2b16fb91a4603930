"""`prlm train-policy`."""

from __future__ import annotations

from typing import Any

import typer

from prlm_cli import ui
from prlm_cli.commands import options
from prlm_cli.commands.flags import Config, config_flags
from prlm_cli.commands.plan_tables import print_dry_run

app = options.new_app()


@app.command()
@config_flags(
    model="model.name",
    qlora="model.qlora",
    reward_model="policy.reward_model",
    steps="policy.steps",
    reasoning="prompt.reasoning",
    warm_start="warm_start.kind",
    start_from="policy.start_from",
    contrast="policy.contrast",
    num_generations="policy.num_generations",
    learning_rate="policy.learning_rate",
    profile_noise="policy.profile_noise",
    k="retrieval.k",
    retriever="retrieval.retriever",
    seed="seed",
)
def train_policy(
    config: Config,
    queries: options.Input = None,
    workspace: options.WorkspaceDir = options.DEFAULT_WORKSPACE,
    name: options.RunName = None,
    resume: options.Resume = "auto",
    force: options.Force = False,
    fit: options.Fit = None,
    dry_run: options.DryRun = False,
    json: options.Json = False,
) -> None:
    """Train the policy: a warm start, then GRPO.

    The reward is overlap with the user's real answer, form, and the newest reward model that passed its gate. The same
    command again goes on with an interrupted run. Exits with 1 where the watchdog ended the run.

    Example: prlm train-policy --qlora
    Example: prlm train-policy --config recipes/cpu.toml --seed 1
    """
    from prlm_cli.core import jsonl
    from prlm_cli.core.ranks import is_main, world_size
    from prlm_cli.core.records import Query

    options.quieten_libraries()
    if fit:
        from prlm_cli.pipeline.fit import size_of_card
        from prlm_cli.pipeline.plan import fitted

        config = fitted(config, size_of_card(fit), processes=world_size())
    if dry_run:
        if is_main():
            print_dry_run(config, as_json=json)
        return
    from prlm_cli.pipeline.train_policy import train_policy as run
    from prlm_cli.pipeline.watching import EARLY_STOP

    trained = run(
        options.open_workspace(workspace),
        config,
        queries=jsonl.read(queries, Query) if queries else None,
        name=name,
        resume=options.resumes(resume),
        force=force,
        reporter=ui.Terminal(),
    )
    if not is_main():
        return
    if json:
        ui.print_json({"run": trained.name, **trained.metrics})
    else:
        rows = [[key.replace("_", " "), _spelled(value)] for key, value in trained.metrics.items()]
        ui.print_table(["policy", trained.name], rows)
    if trained.metrics.get("stopped_by") not in (None, EARLY_STOP):
        raise typer.Exit(1)  # done, but it went wrong


def _spelled(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)
