"""`prlm train-reward`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prlm_cli import ui
from prlm_cli.commands import options
from prlm_cli.commands.flags import Config, config_flags

app = options.new_app()


@app.command()
@config_flags(model="reward.model", qlora="model.qlora", steps="reward.steps", k="retrieval.k", seed="seed")
def train_reward(
    config: Config,
    queries: options.Input = None,
    workspace: options.WorkspaceDir = options.DEFAULT_WORKSPACE,
    pairs: Annotated[
        Path | None, typer.Option("--pairs", help="Pairs to train on, JSONL, instead of building them.")
    ] = None,
    name: options.RunName = None,
    resume: options.Resume = "auto",
    dry_run: options.DryRun = False,
    json: options.Json = False,
) -> None:
    """Train the personalisation reward model on contrastive pairs.

    The pairs are real answers to the training queries, with the user's records, without, and with another user's. The
    model is the policy's base with an adapter and a head, or any encoder; beside it, a twin is trained that does not
    see the records.

    Example: prlm train-reward
    Example: prlm train-reward --qlora --steps 80
    Example: prlm train-reward --model all-MiniLM-L6-v2 --pairs pairs.jsonl
    """
    from prlm_cli.core import configuration, jsonl
    from prlm_cli.core.records import Query

    if dry_run:
        ui.print_line(configuration.to_toml(config), end="")
        return
    from prlm_cli.pipeline.given_pairs import given_pairs
    from prlm_cli.pipeline.train_reward import train_reward as run

    where, reporter = options.open_workspace(workspace), ui.Terminal()
    trained = run(
        where,
        config,
        queries=jsonl.read(queries, Query) if queries else None,
        pairs=given_pairs(where, pairs, config, reporter) if pairs else None,
        name=name,
        resume=options.resumes(resume),
        reporter=reporter,
    )
    metrics = trained.metrics
    if json:
        ui.print_json({"run": trained.name, **metrics})
        return
    rows = [
        *metrics["accuracy"].items(),
        *([("interaction", metrics["interaction"])] if metrics["interaction"] else []),
    ]
    ui.print_table(
        ["held-out accuracy", "share", "95 % interval", "pairs", "users"],
        [[n, f"{a['mean']:.3f}", f"[{a['low']:.3f}, {a['high']:.3f}]", a["n"], a["users"]] for n, a in rows],
    )
    ui.note(f"reward model {trained.name}: {metrics['verdict']}")
