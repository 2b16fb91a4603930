"""Generations that are scored in a stream, of which a report then reads a few again."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO
from weakref import finalize

import msgspec

from prlm_cli.core import jsonl
from prlm_cli.core.errors import DataError
from prlm_cli.core.records import Generation
from prlm_cli.pipeline.aligned import parts_of, read_joined


class Generations:
    """The generations of a file or of standard input, and how many records each was given.

    Standard input comes only once: where it is to be read again, a nameless temporary file keeps it, which is gone with
    this process. So the memory stays that of one generation.

    Args:
        path: A JSONL file, several with commas between their names, or `-` for standard input.
        rereads: Whether `at` is to be asked for single ones.
    """

    def __init__(self, path: Path, *, rereads: bool = True) -> None:
        self.path = path
        self.record_counts = array("l")
        self._copy: IO[bytes] | None = TemporaryFile() if rereads and jsonl.STDIN in parts_of(path) else None  # noqa: SIM115
        if self._copy:
            finalize(self, self._copy.close)

    def __iter__(self) -> Iterator[Generation]:
        """Each generation, in the order of the file.

        Raises:
            DataError: If a line is not a generation.
        """
        del self.record_counts[:]
        for generation in read_joined(self.path):
            if self._copy:
                self._copy.write(jsonl.encode(generation))
            self.record_counts.append(len(generation.profile))
            yield generation

    def at(self, rows: Mapping[int, str]) -> dict[int, Generation]:
        """The generations of these rows, counted from 0, each with the query that it answers.

        Raises:
            DataError: If the file has changed since it was read.
        """
        found = {row: one for row, one in self._again(set(rows)) if one.query_id == rows[row]}
        if len(found) < len(rows):
            raise DataError(f"{jsonl.name_of(self.path)} changed while it was read", hint="run it again")
        return found

    def _again(self, rows: set[int]) -> Iterator[tuple[int, Generation]]:
        end = max(rows, default=-1) + 1
        if self._copy is None:
            for row, generation in enumerate(islice(read_joined(self.path), end)):
                if row in rows:
                    yield row, generation
            return
        self._copy.seek(0)
        for row, line in enumerate(islice(self._copy, end)):
            if row in rows:
                yield row, msgspec.json.decode(line, type=Generation)
