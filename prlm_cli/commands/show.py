"""`prlm show`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from prlm_cli import ui
from prlm_cli.commands import options

if TYPE_CHECKING:
    from prlm_cli.pipeline.show import Contents, History

app = options.new_app()


@app.command()
def show(
    user: Annotated[
        str | None, typer.Argument(metavar="USER", help="The user whose history to show.", show_default=False)
    ] = None,
    head: Annotated[
        int | None, typer.Option("--head", min=0, help="Only so many of the documents; without USER, of the users.")
    ] = None,
    workspace: options.WorkspaceDir = options.DEFAULT_WORKSPACE,
    json: options.Json = False,
) -> None:
    """Show what the index holds: counts, users, one user's history.

    A history is shown newest first, with the user's queries after it.

    Example: prlm show --head 5
    Example: prlm show u123 --head 10
    """
    where = options.open_workspace(workspace)
    from prlm_cli.pipeline.show import show as run
    from prlm_cli.pipeline.show import show_user

    if user is None:
        contents = run(where, head=head or 0)
        ui.print_json(_as_dict(contents)) if json else _print_contents(contents)
    else:
        history = show_user(where, user, head=head)
        ui.print_json({"user_id": user, **history._asdict()}) if json else _print_history(history)


def _as_dict(contents: Contents) -> dict[str, object]:
    first_users = [size._asdict() for size in contents.first_users]
    return {**vars(contents), "history": contents.history._asdict(), "first_users": first_users}


def _print_contents(contents: Contents) -> None:
    history = contents.history
    spread = f"min {history.min}, median {history.median:g}, mean {history.mean:.1f}, max {history.max}"
    rows = [
        ("users", contents.users),
        ("documents", contents.documents),
        *((f"queries, {split}", count) for split, count in contents.queries.items()),
        ("language", contents.language),
        ("documents a user", spread),
        *((f"vectors, {model}", count) for model, count in contents.encoders.items()),
        *([("shared documents", contents.shared_documents)] if contents.shared_documents is not None else []),
        ("size on disk", f"{contents.size_bytes / 1e6:.1f} MB"),
    ]
    ui.print_table(["index", ""], rows)
    if contents.first_users:
        ui.print_line()
        ui.print_table(["user", "documents", "queries"], contents.first_users)


def _print_history(history: History) -> None:
    ui.print_table(
        ["document", "date", "title"],
        [[document.doc_id, _or_blank(document.date), document.title or ""] for document in history.documents],
    )
    if history.queries:
        ui.print_line()
        ui.print_table(
            ["query", "date", "split", "target"],
            [[q.query_id, _or_blank(q.date), q.split or "", q.target or ""] for q in history.queries],
        )


def _or_blank(value: object) -> object:
    return "" if value is None else value
