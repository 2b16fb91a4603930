"""What `prlm index` reads: inputs in any format, as records; a stream is kept in a private file, to be read twice."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec

from prlm_cli.core import jsonl
from prlm_cli.core.errors import DataError
from prlm_cli.core.jsonl import Line, OnFault
from prlm_cli.core.records import Document, Query
from prlm_cli.formats import FORMATS, Format
from prlm_cli.retrievers.shared import SHARED_USER


@dataclass(frozen=True)
class Reading:
    """How lines become records.

    Args:
        columns: Field -> column, where the input has other names.
        split: The split of queries that name none.
        is_shared: Documents are nobody's, and there are no queries.
    """

    columns: Mapping[str, str]
    split: str | None
    is_shared: bool

    @property
    def is_plain(self) -> bool:
        """Whether lines hold records as they are."""
        return not self.columns and not self.is_shared

    def record(self, line: Line) -> Document | Query:
        """The record of a line.

        Raises:
            DataError: If it is none, or what belongs to a user is to be shared.
        """
        if self.columns:
            from prlm_cli.formats.mapping import apply

            line = apply(line, self.columns)
        if not self.is_shared:
            return jsonl.document_or_query(line, split=self.split)
        if "user_id" in line.fields or "query_id" in line.fields:
            raise DataError(
                f"{line.where}: a shared document belongs to no user", hint="leave out user_id and query_id"
            )
        owned = jsonl.document_or_query(Line(line.where, {**line.fields, "user_id": "nobody"}))
        return msgspec.structs.replace(owned, user_id=SHARED_USER)


class Input(NamedTuple):
    """One input: a file, what messages call it, and its format."""

    path: Path
    name: str
    format: str


class Inputs:
    """The inputs of one run, which can be read more than once."""

    def __init__(self, inputs: Sequence[Input], reading: Reading) -> None:
        self._inputs = inputs
        self._reading = reading

    def __len__(self) -> int:
        return len(self._inputs)

    def apart(self) -> list[Inputs]:
        """The same in parts that can be read side by side, elsewhere; LaMP's files speak of the same people."""
        sources = [source._replace(path=source.path.absolute()) for source in self._inputs]
        parts = [sources] if any(source.format == "lamp" for source in sources) else [[source] for source in sources]
        return [Inputs(part, self._reading) for part in parts if part]

    def read(self, on_fault: OnFault | None = None) -> Iterator[tuple[str, Iterator[Document | Query]]]:
        """One pass: the name of each input, and its records, one by one.

        Raises:
            DataError: If something in an input is no record and there is no `on_fault`.
        """
        formats: dict[str, Format] = {}
        for source in self._inputs:
            if source.format not in formats:
                formats[source.format] = _reader(source.format)
            yield source.name, self._records(source, formats[source.format], on_fault)

    def _records(self, source: Input, read: Format, on_fault: OnFault | None) -> Iterator[Document | Query]:
        named = None if on_fault is None else partial(_hand_on, source, on_fault)
        try:
            if source.format == "jsonl" and self._reading.is_plain:
                yield from jsonl.read_records(source.path, named, split=self._reading.split)
            else:
                yield from self._converted(read(source.path, named), named)
        except DataError as error:
            raise _named(source, error) from error

    def _converted(self, lines: Iterable[Line], on_fault: OnFault | None) -> Iterator[Document | Query]:
        for line in lines:
            try:
                record = self._reading.record(line)
            except DataError as error:
                if on_fault is None:
                    raise
                on_fault(error, line.fields)
            else:
                yield record


def open_inputs(
    paths: Sequence[Path], scratch: Callable[[], Path], reading: Reading, *, format: str = "auto"
) -> Inputs:
    """The inputs that paths lead to; a pattern or a folder may be several.

    Args:
        paths: Files, folders and patterns; `-` is standard input.
        scratch: Gives a folder for what comes as a stream.
        reading: How their lines become records.
        format: A name in `FORMATS`, or "auto".

    Raises:
        DataError: If a path leads to nothing.
        SettingsError: If there is no such format.
    """
    if format != "auto":
        FORMATS[format]  # known before anything is read
    if all(path == jsonl.STDIN or (path.is_file() and path.suffix == ".jsonl") for path in paths):
        chosen = [(path, "jsonl" if format == "auto" else format) for path in paths]  # without importing all formats
    else:
        from prlm_cli.formats.detect import detect
        from prlm_cli.formats.expand import expand

        chosen = [(path, detect(path) if format == "auto" else format) for path in expand(paths)]
    return Inputs([Input(_twice_readable(path, scratch), jsonl.name_of(path), name) for path, name in chosen], reading)


def _reader(name: str) -> Format:
    if name != "lamp":
        return FORMATS[name]
    from prlm_cli.formats import lamp

    return partial(lamp.read, histories=lamp.Histories())  # all its files speak of the same people


def _hand_on(source: Input, on_fault: OnFault, error: DataError, rejected: object) -> None:
    on_fault(_named(source, error), rejected)


def _named(source: Input, error: DataError) -> DataError:
    return DataError(error.message.replace(str(source.path), source.name), hint=error.hint)


def _twice_readable(path: Path, scratch: Callable[[], Path]) -> Path:
    if path != jsonl.STDIN and not path.is_fifo():
        return path
    copy = scratch() / "input"
    with copy.open("wb") as target:
        if path == jsonl.STDIN:
            shutil.copyfileobj(sys.stdin.buffer, target)
        else:
            with path.open("rb") as stream:
                shutil.copyfileobj(stream, target)
    return copy
