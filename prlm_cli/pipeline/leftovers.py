"""What files of a workspace hold of a user or a document that is to be forgotten: found, taken out, searched for."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from prlm_cli.core import terms
from prlm_cli.core.errors import StorageError
from prlm_cli.core.records import Document, Query
from prlm_cli.core.reporting import Stage
from prlm_cli.core.store import Store, is_made_from
from prlm_cli.core.workspace import Run, Workspace
from prlm_cli.pipeline import marks
from prlm_cli.pipeline.marks import Marks
from prlm_cli.pipeline.owned_lines import Owner, lines, rewrite
from prlm_cli.pipeline.policy_report import write_report
from prlm_cli.pipeline.queries import made_query_id

JOURNAL = ".journal"
"""Suffix of what `forget` keeps while it is under way."""

_BLOB_BYTES = 64  # of terms and vectors that are looked for
_TELLING_BYTES = 6
_MB = 2**20


class Sought(NamedTuple):
    """Whose traces are sought, how much of it the store holds, and by what bytes it is recognised."""

    owner: Owner
    documents: int
    queries: int
    marks: Marks


class Cleaning(NamedTuple):
    """The files that lose lines, the files and folders that go, and the runs whose page is made anew from the rest."""

    rewritten: list[Path]
    removed: list[Path]
    reported: list[Run]


def look_up(store: Store, user_id: str, doc_id: str | None) -> Sought:
    """What the store holds of a user, or of a document and the queries made from it."""
    documents = store.documents(user_id, None if doc_id is None else [doc_id])
    queries = list(store.queries(user_id=user_id))
    if doc_id is None:
        owner, strings = Owner(user_id), _telling(user_id, store.users())
    else:
        queries = [query for query in queries if any(is_made_from(query, doc_id, d.text) for d in documents)]
        query_ids = {made_query_id(user_id, doc_id), *(query.query_id for query in queries)}
        texts = {terms.fingerprint_of(document.text) for document in documents}
        owner, strings = Owner(user_id, doc_id, frozenset(query_ids), frozenset(texts)), set()
    found = marks.marks_of(_stored(store, user_id, documents, queries), strings)
    return Sought(owner, len(documents), len(queries), found)


def plan(workspace: Workspace, sought: Sought, runs: Iterable[str]) -> Cleaning:
    """What is to be done to the files, those of the store aside.

    Args:
        workspace: Where they lie.
        sought: What is to go.
        runs: The runs that were trained on it: what is left of a save that was interrupted goes.
    """
    planned = Cleaning([], [workspace.errors] if workspace.errors.exists() else [], [])
    names = _as_json_value(sought.owner.user_id) if sought.owner.doc_id is None else set()
    in_cache = Marks(sought.marks.hashes, sought.marks.strings | names)
    for path in _files(workspace):
        with _at(path):
            if workspace.cache in path.parents and path.suffix != ".jsonl":
                planned.removed.extend([path] if in_cache.found_in_file(path) else [])
            elif path != workspace.errors and (_is_half_written(path) or path.suffix == ".jsonl"):
                to_change = planned.removed if _is_half_written(path) else planned.rewritten
                to_change.extend([path] if any(map(_is_trace(workspace, path, sought), lines(path))) else [])
    for run in (Run(workspace.runs_folder / name) for name in runs):
        shows = run.samples.exists() and run.report.exists()
        if shows and (run.samples in planned.rewritten or sought.marks.found_in_file(run.report)):
            planned.reported.append(run)
    for name in runs:
        folders = sorted((workspace.runs_folder / name).glob("**/checkpoints/checkpoint-*"))  # a twin's, too
        planned.removed.extend(folder for folder in folders if not (folder / "manifest.json").exists())
    return planned


def clean(workspace: Workspace, sought: Sought, planned: Cleaning) -> None:
    """Does what was planned.

    Raises:
        StorageError: If a file cannot be changed.
    """
    for path in planned.rewritten:
        rewrite(path, _is_trace(workspace, path, sought))
    for run in planned.reported:
        write_report(run)
    for path in planned.removed:
        with _at(path):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def search(workspace: Workspace, sought: Sought, stage: Stage) -> tuple[list[Path], int]:
    """The files that still hold something of it, and how many bytes were searched.

    Raises:
        StorageError: If a file cannot be read.
    """
    held: list[Path] = []
    found: dict[Path, Marks] = {}
    size = 0
    for path in _files(workspace):
        with _at(path):
            size += path.stat().st_size
            if path.suffix == ".jsonl" and any(map(sought.owner.owns, lines(path))):
                held.append(path)
            elif traces := sought.marks.found_in_file(path) if path.suffix != ".jsonl" else _unowned(path, sought):
                found[path] = traces
        stage(size // _MB)
    everything = marks.union(found.values())
    others = _among_others(workspace, everything, sought.owner) if everything else everything
    for path, traces in found.items():
        rest = traces - others
        if rest and (path.suffix == ".jsonl" or rest.have_neighbours_in(path)):
            held.append(path)
    return sorted(held), size


def _is_trace(workspace: Workspace, path: Path, sought: Sought) -> Callable[[bytes], bool]:
    """Tells of a line of a record file whether it has to go.

    A line that does not say whose it is may just share a phrase with what is sought. It counts in files alone that only
    this program writes; what can be made again goes if it but names the user.
    """
    wanted = sought.marks
    if workspace.cache in path.parents:
        wanted = Marks(wanted.hashes, wanted.strings | _as_json_value(sought.owner.user_id))
    is_ours = _is_half_written(path) or bool({workspace.runs_folder, workspace.cache} & {*path.parents})
    is_suspect = is_ours and bool(wanted.found_in_file(path))

    def is_trace(line: bytes) -> bool:
        owns = sought.owner.owns(line)
        return owns or (owns is None and is_suspect and bool(wanted.found_in(line)))

    return is_trace


def _unowned(path: Path, sought: Sought) -> Marks:
    """The marks in those lines of a record file that do not say whose they are."""
    unowned = (line for line in lines(path) if sought.owner.owns(line) is None)
    return marks.union(sought.marks.found_in(block) for block in marks.blocks(unowned))


def _among_others(workspace: Workspace, wanted: Marks, owner: Owner) -> Marks:
    """Those of some marks that stand in what the store holds of others."""
    missing = wanted
    with workspace.open_store() as store:
        for block in marks.blocks(_stored_of_others(store, owner)):
            missing -= missing.found_in(block)
            if not missing:
                break
    return wanted - missing


def _stored_of_others(store: Store, owner: Owner) -> Iterator[bytes]:
    user_ids = [user_id for user_id in store.users() if not owner.has(user_id)]
    for user_id in user_ids:
        for document in store.documents(user_id):
            if not owner.has(user_id, doc_id=document.doc_id):
                yield from marks.spellings(document)
    for query in store.queries():
        if not owner.has(query.user_id, query_id=query.query_id):
            yield from marks.spellings(query)
    models = store.encoders()
    for user_id in user_ids:
        yield from (entry.hashes for entry in store.history(user_id).entries)
        for model in models:
            yield from store.vectors(user_id, model).values()


def _stored(store: Store, user_id: str, documents: list[Document], queries: list[Query]) -> Iterator[bytes]:
    """All that the store has of some documents and queries of a user, except the user's id."""
    for record in (*documents, *queries):
        yield from marks.spellings(record, without=("user_id",))
    history = store.history(user_id)
    rids = {history.entries[history.positions[document.doc_id]].rid for document in documents}
    yield from (entry.hashes[:_BLOB_BYTES] for entry in history.entries if entry.rid in rids)
    for model in store.encoders():
        vectors = store.vectors(user_id, model)
        yield from (vector[:_BLOB_BYTES] for rid, vector in vectors.items() if rid in rids)


def _telling(user_id: str, user_ids: Iterable[str]) -> set[bytes]:
    """The id as files may spell it, where finding it tells something: a mere word may stand in anybody's text."""
    if user_id.isalpha() or len(user_id.encode()) < _TELLING_BYTES:
        return set()
    if any(user_id in other for other in user_ids if other != user_id):
        return set()
    return {text[: marks.MAX_STRING] for text in marks.spellings(user_id)}


def _as_json_value(user_id: str) -> set[bytes]:
    """A user's id in quotation marks; the cache can be made again, so a mere word will do there."""
    return {(b'"' + text + b'"')[: marks.MAX_STRING] for text in marks.quoted(user_id)}


def _files(workspace: Workspace) -> list[Path]:
    """All files of the workspace that may hold a trace: not the shared corpus, which is nobody's."""
    shared = f"{workspace.shared.stem}."
    return [
        path
        for path in sorted(workspace.folder.rglob("*"))
        if path.is_file()
        and not path.is_symlink()
        and not path.relative_to(workspace.folder).parts[0].lstrip(".").startswith(shared)
        and path.suffix != JOURNAL
    ]


def _is_half_written(path: Path) -> bool:
    return path.name.startswith(".") and path.suffix != ".lock"


@contextlib.contextmanager
def _at(path: Path) -> Iterator[None]:
    """A block that is passed over if the file goes meanwhile, as old checkpoints of a training do."""
    try:
        yield
    except FileNotFoundError:
        return
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}", hint="check the permissions, then run it again") from error
