"""`prlm export`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from prlm_cli import ui
from prlm_cli.commands import options

app = options.new_app()


@app.command()
def export(
    name: Annotated[str, typer.Argument(metavar="RUN", help="A finished policy.", show_default=False)],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="New folder to write to.", show_default=False)],
    workspace: options.WorkspaceDir = options.DEFAULT_WORKSPACE,
    merge: Annotated[bool, typer.Option("--merge", help="Write a whole model instead of an adapter.")] = False,
    json: options.Json = False,
) -> None:
    """Export a policy for other programs: its adapter, or checked merged weights.

    The folder loads in plain transformers and peft; prlm.json in it tells how prompts are to be built. Merged weights
    are read again and must answer as the adapter does.

    Example: prlm export policy-1 my-adapter
    Example: prlm export policy-1 my-model --merge
    """
    where = options.open_workspace(workspace)
    from prlm_cli.pipeline.export import export as run

    done = run(where, name, folder, merge=merge, reporter=ui.Terminal())
    if json:
        ui.print_json({**asdict(done), "folder": str(folder)})
    elif done.is_merged:
        ui.note(
            f"{folder}: a whole model; log-probabilities within {done.largest_difference:.2g} nats of the adapter's"
        )
    else:
        ui.note(f"{folder}: an adapter for {done.base_model}")
