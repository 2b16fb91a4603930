"""`prlm forget`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from prlm_cli import ui
from prlm_cli.commands import options
from prlm_cli.core.errors import SettingsError

if TYPE_CHECKING:
    from prlm_cli.pipeline.forget import Forgotten

app = options.new_app()
_OUT_OF_REACH = "backups, files written elsewhere with -o, adapters copied out of the workspace"


@app.command()
def forget(
    user: Annotated[str | None, typer.Option("--user", help="The user to forget.")] = None,
    doc: Annotated[
        str | None, typer.Option("--doc", metavar="USER/ID", help="The document to forget; with --user, its id alone.")
    ] = None,
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Forget without asking.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would go and do nothing.")] = False,
    workspace: options.WorkspaceDir = options.DEFAULT_WORKSPACE,
    json: options.Json = False,
) -> None:
    """Remove every trace of a user, or of one document.

    With a document go the queries that were made from it. At the end all files of the workspace are searched for the
    bytes of what went. Weights are not undone: the runs that were trained on it are named.

    Example: prlm forget --user u123 --dry-run
    Example: prlm forget --user u123 --yes
    Example: prlm forget --doc u123/d7
    """
    where = options.open_workspace(workspace)
    from prlm_cli.pipeline.forget import find_document
    from prlm_cli.pipeline.forget import forget as run

    if user is None and doc is None:
        raise SettingsError("nobody is named", hint="--user USER, or --doc USER/ID")
    user_id, doc_id = (user, doc) if user is not None else find_document(where, doc or "")
    what = f"user {user_id}" if doc_id is None else f"document {doc_id} of user {user_id}"
    if not (yes or dry_run):
        if not sys.stdin.isatty():
            raise SettingsError(f"{what} is not forgotten unasked", hint="add --yes")
        expected = run(where, user_id=user_id, doc_id=doc_id, dry_run=True)
        question = f"Forget {what}: {expected.documents} documents, {expected.queries} queries?"
        if not typer.confirm(ui.visible(question), err=True):
            raise typer.Exit(1)
    forgotten = run(where, user_id=user_id, doc_id=doc_id, dry_run=dry_run, reporter=ui.Terminal())
    if json:
        ui.print_json({"user_id": user_id, "doc_id": doc_id, "dry_run": dry_run, **forgotten._asdict()})
    else:
        _print_table(what, forgotten, "would go" if dry_run else "gone")
    if not dry_run:
        ui.note(f"out of reach: {_OUT_OF_REACH}")


def _print_table(what: str, forgotten: Forgotten, gone: str) -> None:
    rows = [
        ("documents", forgotten.documents),
        ("queries", forgotten.queries),
        *(("lines of", name) for name in forgotten.rewritten),
        *(("file", name) for name in forgotten.removed),
    ]
    ui.print_table([what, gone], rows)
    if forgotten.runs:
        ui.print_line()
        ui.print_table(["trained on it, and not undone"], [[name] for name in forgotten.runs])
    if forgotten.scanned_bytes:
        size = f"{forgotten.scanned_bytes / 1e6:.1f} MB"
        ui.note(f"searched {size} of files for it in {forgotten.scan_seconds:.1f} s: no trace")
