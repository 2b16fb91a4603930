"""Which run a training command works on: a new one, or the interrupted one of the same settings and data."""

from __future__ import annotations

import shutil

from prlm_cli.core.configuration import to_toml
from prlm_cli.core.errors import DataError, SettingsError
from prlm_cli.core.reporting import Reporter
from prlm_cli.core.settings import Config
from prlm_cli.core.workspace import Kind, Run, Workspace


def claim_run(
    workspace: Workspace,
    kind: Kind,
    name: str | None,
    config: Config,
    data: str,
    *,
    resume: bool,
    reporter: Reporter,
    force: bool = False,
    **facts: object,
) -> Run:
    """The run to train, its folder made.

    Args:
        workspace: Where runs lie.
        kind: Of the run.
        name: The user's choice; else the next free number.
        config: The resolved settings.
        data: Fingerprint of what is trained on.
        resume: Go on with an interrupted run of the same settings and data.
        reporter: Told when a run goes on.
        force: Replace a finished run of that name.
        facts: More to keep in the run's state.

    Raises:
        DataError: If the named run is finished.
        SettingsError: If the named run was started with other settings or data.
    """
    toml = to_toml(config)
    if name:
        run = workspace.new_run(kind, name)
        if (run.folder / "state.json").exists():
            if not force and (run.is_finished or not resume):
                raise DataError(f"run '{name}' exists", hint="use another --name, or `prlm runs rm`")
            if not force and not _is_same(run, kind, toml, data):
                raise SettingsError(
                    f"run '{name}' was started with {_difference(run, toml)}", hint="use another --name"
                )
    else:
        same = (r for r in workspace.runs() if not r.is_finished and _is_same(r, kind, toml, data))
        run = (next(same, None) if resume else None) or workspace.new_run(kind, None)
    exists = (run.folder / "state.json").exists()
    if exists and (not force or (resume and not run.is_finished and _is_same(run, kind, toml, data))):
        reporter.note(f"going on with run {run.name}")
        return run
    if run.folder.exists():
        (run.folder / "state.json").unlink(missing_ok=True)  # first: what is left of it then is no run
        shutil.rmtree(run.folder)
    run.start(kind, toml, data=data, **facts)
    return run


def _is_same(run: Run, kind: Kind, toml: str, data: str) -> bool:
    state = run.state
    return bool(state["kind"] == kind and state.get("data") == data and run.config == toml)


def _difference(run: Run, toml: str) -> str:
    changed = sorted(set(run.config.splitlines()) - set(toml.splitlines()))
    return ", ".join(line for line in changed if line) or "other data"
