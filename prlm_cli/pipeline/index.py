"""`prlm index`: documents and queries into the store."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import msgspec

from prlm_cli.core import jsonl
from prlm_cli.core.dates import parse_period
from prlm_cli.core.errors import DataError
from prlm_cli.core.records import Document, Query, with_doc_id
from prlm_cli.core.store import Store
from prlm_cli.core.workspace import Workspace
from prlm_cli.core.writer import Counts

_BATCH = 2000
_SHOWN_FAULTS = 3


class Indexed(NamedTuple):
    """What an `index` did, and what the index holds now."""

    documents: Counts
    queries: Counts
    total: dict[str, int]


def index(workspace: Workspace, paths: Sequence[Path], *, split: str | None = None) -> Indexed:
    """Adds or updates the records of JSONL files; the same input twice changes nothing.

    A line with `query_id` is a query, any other a document. All lines are checked before anything is stored.

    Args:
        workspace: Where the index lies; made where it is missing.
        paths: JSONL files; `-` is standard input.
        split: The split of queries that name none.

    Raises:
        DataError: If a line is not a valid record, or there is none.
        StorageError: If the store cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="prlm-") as folder:
        files = [_spool(path, Path(folder) / f"input{n}") if _is_stream(path) else path for n, path in enumerate(paths)]
        names = {str(file): _name(path) for file, path in zip(files, paths, strict=True)}
        _check(files, split, names)
        with workspace.write_lock(), workspace.open_store(create=True) as store:
            return _add(store, (record for file in files for record in _read(file, split)))


def _add(store: Store, records: Iterable[Document | Query]) -> Indexed:
    documents, queries = Counts(), Counts()
    stream = iter(records)
    while batch := list(islice(stream, _BATCH)):
        documents += store.add_documents(record for record in batch if isinstance(record, Document))
        queries += store.add_queries(record for record in batch if isinstance(record, Query))
    return Indexed(documents, queries, store.count())


def _check(files: Sequence[Path], split: str | None, names: dict[str, str]) -> None:
    """Reads everything once, so that a bad line leaves the store as it was."""
    for file in files:
        faults: list[DataError] = []
        name = names.get(str(file), str(file))
        if not sum(1 for _ in _read(file, split, faults.append)) and not faults:
            raise DataError(f"{name}: no records", hint="one JSON object a line, with user_id and text")
        if faults:
            shown = "".join(f"; also {fault.message}" for fault in faults[1:_SHOWN_FAULTS])
            more = f" ({len(faults)} bad lines in all{shown})" if len(faults) > 1 else ""
            message = f"{faults[0].message}{more}".replace(str(file), name)
            raise DataError(message, hint=f"{faults[0].hint}; nothing was stored") from faults[0]


def _read(
    file: Path, split: str | None, on_fault: Callable[[DataError], None] | None = None
) -> Iterator[Document | Query]:
    lines = jsonl.read_lines(file, on_fault)
    while True:
        try:
            where, fields = next(lines)
            if "query_id" in fields:
                yield _check_date(
                    where, jsonl.validate(where, {**fields, "split": fields.get("split") or split}, Query)
                )
            else:
                yield _check_date(where, with_doc_id(jsonl.validate(where, fields, Document)))
        except StopIteration:
            return
        except DataError as error:
            if on_fault is None:
                raise
            on_fault(error)


def _check_date(where: str, record: Document | Query) -> Document | Query:
    if record.date is None:
        return record
    if record.date == "":
        return msgspec.structs.replace(record, date=None)
    try:
        parse_period(record.date)
    except (ValueError, OverflowError, OSError) as error:
        raise DataError(f"{where}: field 'date' is not a date", hint="ISO 8601 or epoch seconds") from error
    return record


def _is_stream(path: Path) -> bool:
    """Whether what comes from there can be read only once: standard input, or a pipe."""
    return path == jsonl.STDIN or path.is_fifo()


def _name(path: Path) -> str:
    return "<stdin>" if path == jsonl.STDIN else str(path)


def _spool(source: Path, path: Path) -> Path:
    """A stream in a private file, so that it can be read twice."""
    with path.open("wb") as target:
        if source == jsonl.STDIN:
            shutil.copyfileobj(sys.stdin.buffer, target)
        else:
            with source.open("rb") as stream:
                shutil.copyfileobj(stream, target)
    return path
