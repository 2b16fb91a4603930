"""`prlm doctor`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from prlm_cli import ui
from prlm_cli.commands import options
from prlm_cli.core.errors import RefusedError

if TYPE_CHECKING:
    from prlm_cli.pipeline.doctor import Check

app = options.new_app()
_NAME_WIDTH = 15


@app.command()
def doctor(
    workspace: options.WorkspaceDir = options.DEFAULT_WORKSPACE,
    json: options.Json = False,
) -> None:
    """Check what works on this machine.

    A line is ok, warn or fail. Exit 1 if one fails. Nothing is sent over the network.

    Example: prlm doctor
    Example: prlm doctor -w /data/.prlm --json
    """
    where = options.open_workspace(workspace)
    from prlm_cli.pipeline.doctor import doctor as run

    checks = []
    for check in run(where):
        checks.append(check)
        if not json:
            _print_check(check)
    if json:
        ui.print_json([msgspec.structs.asdict(check) for check in checks])
    if failing := [check.name for check in checks if check.status == "fail"]:
        raise RefusedError(f"not in order: {', '.join(failing)}", hint="each failing line says what to do")


def _print_check(check: Check) -> None:
    ui.print_line(f"{check.status:4}  {check.name:{_NAME_WIDTH}}  {ui.visible(check.detail)}")
    if check.fix:
        ui.print_line(f"      fix: {ui.visible(check.fix)}")
