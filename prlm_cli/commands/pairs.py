"""`prlm pairs`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from prlm_cli import ui
from prlm_cli.commands import options
from prlm_cli.commands.flags import Config, config_flags

if TYPE_CHECKING:
    from prlm_cli.core.records import PreferencePair

app = options.new_app()


@app.command()
@config_flags(policy="pairs.policy", model="model.name", max_queries="pairs.max_queries", k="retrieval.k", seed="seed")
def pairs(
    config: Config,
    queries: options.Input = None,
    workspace: options.WorkspaceDir = options.DEFAULT_WORKSPACE,
    output: options.OutFile = None,
    force: options.Force = False,
    resume: options.Resume = "auto",
    dry_run: options.DryRun = False,
    json: options.Json = False,
) -> None:
    """Write the contrastive pairs of the reward model, to read, edit and bring back.

    One a line; `prlm train-reward --pairs` brings them back. What a policy writes is kept in the workspace's cache, so
    that an interrupted command goes on where it was. --json prints the counts instead.

    Example: prlm pairs -o pairs.jsonl
    Example: prlm pairs --policy warm-start --set pairs.kinds='["own>swapped"]' queries.jsonl | head -3
    """
    from prlm_cli.core import configuration, jsonl
    from prlm_cli.core.records import Query

    if dry_run:
        ui.print_line(configuration.to_toml(config), end="")
        return
    from prlm_cli.pipeline.pairs import pairs as run

    built = run(
        options.open_workspace(workspace),
        config,
        queries=jsonl.read(queries, Query) if queries else None,
        resume=options.resumes(resume),
        reporter=ui.Terminal(),
    )
    if output:
        _write(output, built.pairs, force=force)
    elif not json:
        ui.print_records(built.pairs)
    if json:
        ui.print_json(built.as_dict())


def _write(path: Path, built: Sequence[PreferencePair], *, force: bool) -> None:
    """Writes the pairs, unless they are there: who was interrupted at the very end gives the command again."""
    from prlm_cli.core import jsonl

    if path.is_file() and not force and path.read_bytes() == b"".join(map(jsonl.encode, built)):
        ui.note(f"{path} is complete")
    else:
        ui.note(f"{jsonl.write(path, built, force=force)} pairs in {path}")
