"""`prlm forget`: every trace of a user, or of one document, out of the workspace; weights stay, and are named.

Killed at any moment, the same command again completes it. What is to be looked for is known from the store alone, so
that goes last:

1. A journal is written: hashes of all parts of the texts that are to go (`marks`), and how many texts there are.
2. Files are cleaned. Of record files (JSONL), those in the cache among them, the lines go that are the user's:
   `user_id`, `swapped_user_id` or `profile_user_id` says so. The page of a run that shows samples is made anew from
   those that are left. What `index --on-error skip` left out goes whole: nobody knows whose it is. So does what else
   holds a mark in the cache or among half-written files, and a checkpoint that was never completed.
3. The rows are deleted and overwritten in one transaction, and the store's log is emptied.
4. The store is written anew. SQLite leaves copies of rows that moved in unused parts of its pages, among them earlier
   versions of a document; to overwrite a row does not reach its copies.
5. Every file is searched for the marks. One that also stands in what the store still holds (a phrase, a text that two
   users have) is nobody's trace, and a line of a record file that has another owner is that owner's.
6. The journal goes. Up to here it stands in for the texts if the command has to be given again.

The shared corpus is nobody's, and is left alone. Files are opened and closed here, which ends the locks that other
connections of the same process hold on them: have no store of the workspace open meanwhile.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
import tomllib
from pathlib import Path
from typing import NamedTuple

import msgspec

from prlm_cli.core.errors import DataError, StorageError
from prlm_cli.core.files import replace_file
from prlm_cli.core.reporting import Reporter, Silent
from prlm_cli.core.workspace import Run, Workspace
from prlm_cli.pipeline import marks
from prlm_cli.pipeline.completion_cache import caches_in_use
from prlm_cli.pipeline.leftovers import JOURNAL, Cleaning, Sought, clean, look_up, plan, search
from prlm_cli.pipeline.training_set import user_hash


class Forgotten(NamedTuple):
    """What went. Files are named within the workspace; `runs` are those whose weights were trained on it.

    Deleting the rows and emptying the log took `erase_seconds`, writing the store anew `compact_seconds`, and searching
    `scanned_bytes` of files `scan_seconds`.
    """

    documents: int
    queries: int
    rewritten: list[str]
    removed: list[str]
    runs: list[str]
    erase_seconds: float = 0.0
    compact_seconds: float = 0.0
    scan_seconds: float = 0.0
    scanned_bytes: int = 0


class _Journal(msgspec.Struct):
    documents: int
    queries: int
    hashes: bytes


def forget(
    workspace: Workspace,
    *,
    user_id: str,
    doc_id: str | None = None,
    dry_run: bool = False,
    reporter: Reporter | None = None,
) -> Forgotten:
    """Removes every trace of a user, or of one document and the queries made from it.

    Args:
        workspace: With an index.
        user_id: The user.
        doc_id: A document of that user, to forget it alone.
        dry_run: Only find out what would go.
        reporter: Told of progress.

    Raises:
        DataError: If there is no index, or nothing of that user or document.
        StorageError: If something of it is left, for a reason that the message names; the same again completes it.
    """
    reporter = reporter or Silent()
    runs = runs_trained_on(workspace, user_id)
    if dry_run:
        return _forgotten(workspace, *_prepare(workspace, user_id, doc_id, runs), runs)
    with workspace.open_store():
        pass  # where there is no index, that is known before a lock is made
    with workspace.write_lock(reporter=reporter):
        _check_nothing_is_written(workspace, runs)
        sought, planned = _prepare(workspace, user_id, doc_id, runs)
        journal = _journal_of(workspace, user_id, doc_id)
        _write_journal(journal, sought)
        clean(workspace, sought, planned)
        forgotten = _erase(workspace, sought, _forgotten(workspace, sought, planned, runs), reporter)
        _check_nothing_is_written(workspace, runs_trained_on(workspace, user_id))
        started = time.monotonic()
        held, size = search(workspace, sought, reporter.stage("search, MB"))
        if held:
            names = ", ".join(_names(workspace, held))
            raise StorageError(f"not yet erased from {names}", hint="remove what still holds it and run it again")
        journal.unlink()
        return forgotten._replace(scan_seconds=time.monotonic() - started, scanned_bytes=size)


def find_document(workspace: Workspace, name: str) -> tuple[str, str]:
    """The ids of the user and the document that `USER/DOCUMENT` names; either may hold slashes.

    Raises:
        DataError: If there is no such document, or more than one way to read the name.
    """
    splits = [(name[:n], name[n + 1 :]) for n, character in enumerate(name) if character == "/"]
    with workspace.open_store() as store:
        found = [
            (user_id, doc_id)
            for user_id, doc_id in splits
            if store.documents(user_id, [doc_id]) or _journal_of(workspace, user_id, doc_id).exists()
        ]
    if not found:
        raise DataError(f"no document '{name}' in the index", hint="name it USER/DOCUMENT")
    if len(found) > 1:
        raise DataError(f"'{name}' names {len(found)} documents", hint="name the user apart, with --user")
    return found[0]


def runs_trained_on(workspace: Workspace, user_id: str) -> list[str]:
    """The runs whose weights were trained on a user's data, or with the help of such a run.

    A run that does not say whom it was trained on, or cannot be read, counts as one.
    """
    own = user_hash(user_id)
    sound, damaged = workspace.sound_and_damaged_runs()
    names = {run.name for run in damaged} | {run.name for run in sound if own in run.state.get("trained_on", [own])}
    while more := {run.name for run in sound if run.name not in names and names & _made_with(run)}:
        names |= more
    return sorted(names)


def _made_with(run: Run) -> set[str]:
    """The runs that a run's configuration names: the one it went on from, and those that judged or wrote for it."""
    with contextlib.suppress(StorageError, tomllib.TOMLDecodeError):
        config = tomllib.loads(run.config)
        policy, pairs, start = (config.get(section, {}) for section in ("policy", "pairs", "warm_start"))
        names = {policy.get("start_from"), policy.get("reward_model"), pairs.get("policy"), start.get("policy")}
        return names - {None}
    return set()


def _check_nothing_is_written(workspace: Workspace, runs: list[str]) -> None:
    # What trains or answers has read the user's records, and may write of them when everything is done here.
    for name in runs:
        if workspace.is_locked(name):
            raise StorageError(f"run '{name}' is being trained on it: not yet erased", hint="end that first")
    for name in caches_in_use(workspace):
        raise StorageError(f"{name} is being written: not yet erased", hint="end that first")


def _prepare(workspace: Workspace, user_id: str, doc_id: str | None, runs: list[str]) -> tuple[Sought, Cleaning]:
    with workspace.open_store() as store:
        is_known = store.has_user(user_id) if doc_id is None else bool(store.documents(user_id, [doc_id]))
        sought = look_up(store, user_id, doc_id)
    journal = _journal_of(workspace, user_id, doc_id)
    if journal.exists():
        sought = _with_journal(sought, journal)
    planned = plan(workspace, sought, runs)
    if not (is_known or planned.rewritten or journal.exists()):
        what = f"user '{user_id}'" if doc_id is None else f"document '{doc_id}' of user '{user_id}'"
        raise DataError(f"no {what} in the index", hint="nor in a file of the workspace")
    return sought, planned


def _erase(workspace: Workspace, sought: Sought, forgotten: Forgotten, reporter: Reporter) -> Forgotten:
    user_id = sought.owner.user_id
    with workspace.open_store(create=True) as store:
        started = time.monotonic()
        store.erase(user_id, sought.owner.doc_id)
        store.truncate_log()
        erased = time.monotonic()
        reporter.note("writing the index anew")
        store.compact(user_id)
        return forgotten._replace(erase_seconds=erased - started, compact_seconds=time.monotonic() - erased)


def _journal_of(workspace: Workspace, user_id: str, doc_id: str | None) -> Path:
    name = hashlib.blake2b(msgspec.json.encode([user_id, doc_id]), digest_size=8).hexdigest()
    return workspace.folder / f".forget-{name}{JOURNAL}"


def _write_journal(path: Path, sought: Sought) -> None:
    journal = _Journal(sought.documents, sought.queries, sought.marks.hashes.tobytes())
    replace_file(path, [msgspec.msgpack.encode(journal)])


def _with_journal(sought: Sought, path: Path) -> Sought:
    """What an earlier call looked for, too: it may have erased that already."""
    import numpy as np

    try:
        journal = msgspec.msgpack.decode(path.read_bytes(), type=_Journal)
        earlier = marks.Marks(np.frombuffer(journal.hashes, dtype="<u8"))
    except (OSError, ValueError) as error:
        raise StorageError(f"{path} cannot be read", hint="remove it and run it again") from error
    documents, queries = max(sought.documents, journal.documents), max(sought.queries, journal.queries)
    return Sought(sought.owner, documents, queries, marks.union([sought.marks, earlier]))


def _forgotten(workspace: Workspace, sought: Sought, planned: Cleaning, runs: list[str]) -> Forgotten:
    rewritten = _names(workspace, [*planned.rewritten, *(run.report for run in planned.reported)])
    removed = _names(workspace, planned.removed)
    return Forgotten(sought.documents, sought.queries, rewritten, removed, runs)


def _names(workspace: Workspace, paths: list[Path]) -> list[str]:
    return [str(path.relative_to(workspace.folder)) for path in paths]
