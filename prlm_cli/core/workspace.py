"""Where things lie: the index, the runs and the caches of one workspace.

WORKSPACE/
  index.sqlite                   or index/, a folder of shards
  shared.sqlite, shared.bm25s/   the shared corpus
  errors.jsonl                   what the last `index --on-error skip` left out
  runs/NAME/    kind, config.toml, state.json, log.jsonl, metrics.json, report.html, checkpoints/, adapter/;
                of a policy also last/, and samples.jsonl where that was asked for
  trackers/     what TensorBoard and wandb write
  cache/        anything that can be made again
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from prlm_cli.core.errors import DataError, SettingsError, StorageError, did_you_mean
from prlm_cli.core.files import private, replace_file
from prlm_cli.core.reporting import Reporter, Silent
from prlm_cli.core.shards import ShardedStore, make_shards, shards_in
from prlm_cli.core.store import Store

Kind = Literal["reward", "policy"]
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_PATIENCE = 2.0  # seconds before a writer says that it waits
_LOCK_TIMEOUT = 10.0
_REMOVE_THE_RUN = "remove the run with `prlm runs rm`"


class Run:
    """One training run: its folder and what is written there. Files are replaced in one atomic step."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = folder.name
        self.adapter = folder / "adapter"
        self.checkpoints = folder / "checkpoints"
        self.log = folder / "log.jsonl"
        self.report = folder / "report.html"
        self.samples = folder / "samples.jsonl"
        self.last = folder / "last"
        self.trackers = folder.parent.parent / "trackers"  # one folder for all runs: trackers compare them

    @property
    def state(self) -> dict[str, Any]:
        """Kind, status ("running" or "finished"), times, and what made the run (its hashes).

        Raises:
            StorageError: If it is missing or damaged.
        """
        path = self.folder / "state.json"
        state = read_json(path)
        needed = ("kind", "status", "started", *(["finished"] if state.get("status") == "finished" else []))
        if not all(isinstance(state.get(name), str) for name in needed):
            raise StorageError(f"{path} cannot be read", hint=_REMOVE_THE_RUN)
        return state

    @property
    def metrics(self) -> dict[str, Any]:
        """What the run measured; empty until it finished."""
        path = self.folder / "metrics.json"
        return read_json(path) if path.exists() else {}

    @property
    def config(self) -> str:
        """The resolved configuration as TOML.

        Raises:
            StorageError: If it is missing or damaged.
        """
        path = self.folder / "config.toml"
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise StorageError(f"{path} cannot be read", hint=_REMOVE_THE_RUN) from error

    @property
    def is_finished(self) -> bool:
        """Whether the run came to its end."""
        return bool(self.state["status"] == "finished")

    def start(self, kind: Kind, config: str, **facts: Any) -> None:
        """Creates the folder with its configuration and state."""
        for folder in (self.folder.parent.parent, self.folder.parent, self.folder):  # `parents=True` takes no mode
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_text(self.folder / "config.toml", config)
        self._write_state({"kind": kind, "status": "running", "started": _now(), **facts})

    def finish(self, metrics: dict[str, Any]) -> None:
        """Writes the metrics and marks the run finished."""
        _write_json(self.folder / "metrics.json", metrics)
        self._write_state({**self.state, "status": "finished", "finished": _now()})

    def append_log(self, fields: dict[str, Any]) -> None:
        """Appends one line of figures to the log."""
        import json

        with open(self.log, "a", opener=private) as stream:
            stream.write(json.dumps(fields) + "\n")

    def rewind_log(self, step: int) -> None:
        """Drops what was logged after a step, from where a run goes on and logs it again; all of it for 0.

        A last line that a kill or a full disk cut goes, too.
        """
        import json

        if not self.log.exists():
            return
        lines = self.log.read_text(encoding="utf-8").splitlines(keepends=True)
        whole = [line for line in lines if line.endswith("\n")] if step else []
        write_text(self.log, "".join(line for line in whole if json.loads(line)["step"] <= step))

    def _write_state(self, state: dict[str, Any]) -> None:
        _write_json(self.folder / "state.json", state)


class Workspace:
    """A workspace folder; nothing is created before something is written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shards = folder / "index"
        self.shared = folder / "shared.sqlite"
        self._file = folder / "index.sqlite"
        self.errors = folder / "errors.jsonl"
        self.runs_folder = folder / "runs"
        self.cache = folder / "cache"

    @property
    def index(self) -> Path:
        """The index, whether it is there or not: a file, or the folder of its shards."""
        return self.shards if self.shards.is_dir() else self._file

    def number_of_shards(self, wanted: int | None = None) -> int:
        """In how many shards the index is, or is to be where there is none yet; 1 is a single file.

        Args:
            wanted: The number it must have; None for any.

        Raises:
            SettingsError: If the index is in another number of shards.
            StorageError: If the shards are not complete, or there is a single file as well.
        """
        if not self.shards.is_dir():
            found = 1 if self._file.exists() else wanted or 1
        elif self._file.exists():
            raise StorageError(f"{self.folder} holds index.sqlite and a folder index", hint="move one of them away")
        else:
            found = len(shards_in(self.shards))
        if wanted not in (None, found):
            what = "one file" if found == 1 else f"{found} shards"
            raise SettingsError(
                f"the index in {self.folder} is {what}, not {wanted}", hint="index into a new workspace, -w DIR"
            )
        return found

    def open_store(
        self, *, create: bool = False, language: str | None = None, shared: bool = False, shards: int | None = None
    ) -> Store:
        """The index, for reading, or for writing with `create`.

        Args:
            create: Make it where it is missing, and open it for writing.
            language: What the texts of a new index are in.
            shared: The corpus that all users share, instead.
            shards: In how many shards it must be, or a new one is made; 1 is a single file.

        Raises:
            DataError: If there is no index yet.
            SettingsError: If it is in another number of shards.
            StorageError: If it cannot be opened.
        """
        if create:
            self._make()
        if shared:
            return Store(self.shared, create=create, language=language)
        count = self.number_of_shards(shards)
        if count > 1 and create and not self.shards.is_dir():
            make_shards(self.shards, count, language)
        if self.shards.is_dir():
            return ShardedStore(self.shards, create=create)
        return Store(self._file, create=create, language=language)

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A folder for what is needed for a moment; it goes at the end of the block."""
        import tempfile

        self._make()
        self.cache.mkdir(exist_ok=True, mode=0o700)
        with tempfile.TemporaryDirectory(prefix="scratch-", dir=self.cache) as folder:
            yield Path(folder)

    @contextmanager
    def write_lock(self, name: str = "index", reporter: Reporter | None = None) -> Iterator[None]:
        """Holds the write lock `name`; it ends with the process.

        Args:
            name: Of the lock.
            reporter: Told after two seconds that somebody else holds it.

        Raises:
            StorageError: If another process holds it for more than ten seconds.
        """
        import filelock  # here, not above: who only reads needs no lock

        self._make()
        path = self._lock_file(name)
        lock = filelock.FileLock(path, mode=0o600)
        try:
            try:
                lock.acquire(timeout=_PATIENCE)
            except filelock.Timeout:
                (reporter or Silent()).note(f"waiting for {_holder(path)}, which is writing to {self.folder}")
                lock.acquire(timeout=_LOCK_TIMEOUT - _PATIENCE)
        except filelock.Timeout as error:
            raise StorageError(
                f"{self.folder}: {_holder(path)} is writing", hint="try again when it is done"
            ) from error
        try:
            path.write_text(f"{os.getpid()}\n")
            yield
        finally:
            lock.release()

    def is_locked(self, name: str) -> bool:
        """Whether a process holds the write lock `name`; one that cannot be opened is somebody else's."""
        import filelock

        path = self._lock_file(name)
        if not path.exists():
            return False
        try:
            with filelock.FileLock(path, timeout=0, mode=0o600):
                return False
        except (filelock.Timeout, PermissionError):
            return True

    def runs(self) -> list[Run]:
        """All runs, oldest first.

        Raises:
            StorageError: If the state of one is damaged.
        """
        return _by_start(self._run_folders())

    def sound_and_damaged_runs(self) -> tuple[list[Run], list[Run]]:
        """The runs whose state can be read, oldest first, and the others, by name."""
        sound, damaged = [], []
        for run in self._run_folders():
            try:
                run.state  # noqa: B018
                sound.append(run)
            except StorageError:
                damaged.append(run)
        return _by_start(sound), damaged

    def run(self, name: str) -> Run:
        """The run of that name.

        Raises:
            DataError: If there is none.
        """
        run = Run(self.runs_folder / check_name(name))
        if not (run.folder / "state.json").exists():
            # Names of folders, not of runs: one damaged run must not hide the others.
            names = [folder.name for folder in self.runs_folder.iterdir()] if self.runs_folder.is_dir() else []
            hint = did_you_mean(name, names) if names else "there is none yet"
            raise DataError(f"no run '{name}' in {self.folder}", hint=hint)
        return run

    def finished_run(self, name: str, kind: Kind) -> Run:
        """The finished run of that name and kind.

        Raises:
            DataError: If there is none, or it is of another kind or not finished.
        """
        run = self.run(name)
        if run.state["kind"] != kind or not run.is_finished:
            noun = "reward model" if kind == "reward" else kind
            raise DataError(f"run '{run.name}' is not a finished {noun}", hint="see `prlm runs`")
        return run

    def latest(self, kind: Kind) -> Run | None:
        """The newest finished run of a kind; a warm start is a policy, but never the latest."""
        finished = [
            run
            for run in self.runs()
            if run.state["kind"] == kind and run.is_finished and not run.state.get("is_warm_start")
        ]
        return max(finished, key=lambda run: str(run.state["finished"]), default=None)

    def new_run(self, kind: Kind, name: str | None) -> Run:
        """The run to train: the named one, or the next free number."""
        if name:
            return Run(self.runs_folder / check_name(name))
        taken = {run.name for run in self.runs()}
        number = next(n for n in range(1, len(taken) + 2) if f"{kind}-{n}" not in taken)
        return Run(self.runs_folder / f"{kind}-{number}")

    def remove(self, run: Run) -> None:
        """Deletes a run with all that it holds, and its lock file.

        Raises:
            StorageError: If something of it cannot be deleted.
        """
        import shutil

        try:
            shutil.rmtree(run.folder)
            self._lock_file(run.name).unlink(missing_ok=True)
        except OSError as error:
            where = error.filename or run.folder
            raise StorageError(
                f"{where}: {error.strerror}", hint="check the permissions, then remove it again"
            ) from error

    def _run_folders(self) -> list[Run]:
        folders = sorted(self.runs_folder.iterdir()) if self.runs_folder.is_dir() else []
        return [Run(folder) for folder in folders if (folder / "state.json").exists()]

    def _lock_file(self, name: str) -> Path:
        return self.folder / f".{name}.lock"

    def _make(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise StorageError(f"{self.folder}: {error.strerror}", hint="name another workspace with -w") from error


def _by_start(runs: list[Run]) -> list[Run]:
    return sorted(runs, key=lambda run: (run.state["started"], run.name))


def check_name(name: str) -> str:
    """The name of a run, if it may be one.

    Raises:
        DataError: If it may not.
    """
    if not _NAME.fullmatch(name):
        raise DataError(f"'{name}' cannot name a run", hint="lower-case letters, digits, '.', '_' and '-', at most 64")
    return name


def write_text(path: Path, text: str) -> None:
    """Replaces a file's text in one atomic step; only its owner may read it.

    Raises:
        StorageError: If it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}", hint="check the folder and its permissions") from error
    replace_file(path, [text.encode()])


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file of the workspace.

    Raises:
        StorageError: If it is missing or damaged.
    """
    import json

    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise StorageError(f"{path} cannot be read", hint=_REMOVE_THE_RUN) from error
    if not isinstance(found, dict):
        raise StorageError(f"{path} cannot be read", hint=_REMOVE_THE_RUN)
    return found


def _write_json(path: Path, fields: dict[str, Any]) -> None:
    import json

    write_text(path, json.dumps(fields, indent=2) + "\n")


def _holder(lock_file: Path) -> str:
    """Who holds a lock, as its file says."""
    try:
        return f"another prlm (process {int(lock_file.read_text())})"
    except (OSError, ValueError):
        return "another prlm"


def _now() -> str:
    return datetime.now(UTC).isoformat()
