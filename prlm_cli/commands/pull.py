"""`prlm pull`."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from prlm_cli import ui
from prlm_cli.commands import options

app = options.new_app()


@app.command()
def pull(
    models: Annotated[
        list[str] | None,
        typer.Argument(metavar="MODEL", help="Names; default: the embedded model.", show_default=False),
    ] = None,
    workspace: options.WorkspaceDir = options.DEFAULT_WORKSPACE,
    json: options.Json = False,
) -> None:
    """Fetch models into the cache, so that --offline works after it.

    Prints the folder of each. With --offline, say where they lie, or what is missing.

    Example: prlm pull
    Example: prlm pull Qwen/Qwen3-0.6B
    """
    if sys.stderr.isatty() and not ui.Output.quiet:
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "0")  # downloading is all that happens here: show it
    options.open_workspace(workspace)
    from prlm_cli.pipeline.pull import pull as run

    found = run(models or (), reporter=ui.Terminal())
    if json:
        ui.print_json([{"model": model, "path": str(path)} for model, path in found])
        return
    for _, path in found:
        ui.print_line(str(path))
