"""Inputs taken apart by shard: read, checked and laid down on disk, from where each shard is written by itself.

    cache/shuffle/ATTEMPT/000-of-004    the records for that shard, in the order of the input

A document goes to its user's shard. A query goes to its user's, and a stub of it to the others, which may hold it as
another user's from before. Each attempt at an input has a folder of its own, so a second one disturbs nothing.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

import msgspec

from prlm_cli.core import jsonl
from prlm_cli.core.partition import Shard, shard_of
from prlm_cli.core.records import Document, Query
from prlm_cli.core.workspace import Workspace
from prlm_cli.pipeline.ingest import Faults, sound_records
from prlm_cli.pipeline.inputs import Inputs
from prlm_cli.pipeline.rejects import Rejects

_REJECTS = "rejects"
_DOCUMENT, _QUERY = b"d", b"q"  # the first byte of a line
_DECODERS: dict[bytes, msgspec.json.Decoder[Document] | msgspec.json.Decoder[Query]]
_DECODERS = {_DOCUMENT: msgspec.json.Decoder(Document), _QUERY: msgspec.json.Decoder(Query)}


class Scattered(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What became of an input: the folder with its records, how many there are, and what was wrong with it.

    `first` are the message and hint of the first few of `faults` faults.
    """

    folder: str
    records: int
    faults: int
    first: list[tuple[str, str]]


@contextlib.contextmanager
def shuffle_folder(workspace: Workspace) -> Iterator[Path]:
    """A folder for scattered records, empty at first and gone in the end. The caller holds the write lock."""
    folder = workspace.cache / "shuffle"
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
    for place in (workspace.cache, folder):
        place.mkdir(exist_ok=True, mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def scatter(inputs: Inputs, folder: Path, shards: int, *, skip_faults: bool) -> Scattered:
    """Reads inputs once and writes each record to the file of its shard.

    Args:
        inputs: What to read.
        folder: Where to make a folder for it.
        shards: How many shards there are.
        skip_faults: Keep what is wrong, with reasons, instead of the first few faults only.

    Raises:
        DataError: If an input cannot be read, or there is nothing in it.
    """
    own = Path(tempfile.mkdtemp(dir=folder))
    faults = Faults()
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(_create(own / Shard(number, shards).name)) for number in range(shards)]
        if skip_faults:
            rejects = stack.enter_context(Rejects(own / _REJECTS))
            count = _write((record for _, found in inputs.read(rejects) for record in found), files)
            faults.extend(rejects.count, [rejects.first] if rejects.first else [])
        else:
            count = _write(sound_records(inputs, faults), files)
    first = [(fault.message, fault.hint) for fault in faults.first]
    return Scattered(folder=str(own), records=count, faults=faults.count, first=first)


def gather(scattered: Iterable[Path], shard: Shard) -> Iterator[Document | Query]:
    """The records for one shard from the folders of all inputs, in the order of the input."""
    for folder in scattered:
        with (folder / shard.name).open("rb") as stream:
            for line in stream:
                yield _DECODERS[line[:1]].decode(line[1:])


def gather_rejects(scattered: Iterable[Path], path: Path) -> None:
    """Puts together what was left out of all inputs; a file of before stays where nothing was."""
    parts = [folder / _REJECTS for folder in scattered if (folder / _REJECTS).exists()]
    if not parts:
        return
    with _create(path) as target:
        for part in parts:
            with part.open("rb") as source:
                shutil.copyfileobj(source, target)


def _write(records: Iterable[Document | Query], files: Sequence[IO[bytes]]) -> int:
    count = 0
    for count, record in enumerate(records, start=1):  # noqa: B007
        line = jsonl.encode(record)
        number = shard_of(record.user_id, len(files))
        if isinstance(record, Document):
            files[number].write(_DOCUMENT + line)
            continue
        stub = jsonl.encode(Query(query_id=record.query_id, user_id=record.user_id, text=""))
        for n, file in enumerate(files):
            file.write(_QUERY + (line if n == number else stub))
    return count


def _create(path: Path) -> IO[bytes]:
    return open(path, "wb", opener=lambda name, flags: os.open(name, flags, 0o600))
