"""`prlm import`: other people's files as records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from prlm_cli.core import jsonl
from prlm_cli.core.errors import DataError
from prlm_cli.core.jsonl import Line
from prlm_cli.core.records import Document, Query
from prlm_cli.formats import csv, git, lamp
from prlm_cli.formats.detect import detect
from prlm_cli.formats.expand import expand
from prlm_cli.formats.mapping import apply, parse_map


class Tally:
    """What an import gave, and what it left out: `dropped` has how often for each reason, and where first."""

    def __init__(self) -> None:
        self.documents = 0
        self.queries = 0
        self.dropped: dict[str, tuple[int, str]] = {}
        self.first_fault: DataError | None = None

    def fault(self, error: DataError, rejected: Any) -> None:
        """Counts something that is at fault."""
        self.first_fault = self.first_fault or error
        where, _, reason = error.message.partition(": ")
        self._drop(reason or where, where)

    def short(self, commit_id: str) -> None:
        """Counts a commit that has too little to say."""
        self._drop("too short a body", f"commit {commit_id[:12]}")

    def _drop(self, reason: str, where: str) -> None:
        count, first = self.dropped.get(reason, (0, where))
        self.dropped[reason] = (count + 1, first)


def import_lamp(questions: Path, outputs: Path | None = None, *, tally: Tally) -> Iterator[Document | Query]:
    """The records of LaMP questions: a file, a pattern, or a folder with the files of all splits.

    Raises:
        DataError: If there are no questions, outputs are named for several files, or nothing could be used.
    """
    files = _questions(questions)
    if outputs and len(files) > 1:
        raise DataError(f"{questions} holds {len(files)} files of questions", hint="name one of them with its outputs")
    histories = lamp.Histories()
    lines = (line for file in files for line in lamp.read(file, tally.fault, outputs=outputs, histories=histories))
    return _records(lines, tally)


def import_csv(path: Path, mapping: str | None = None, *, tally: Tally) -> Iterator[Document | Query]:
    """The records of a CSV or TSV file.

    Args:
        path: The file; `-` is standard input.
        mapping: Which column is which field, as in `text=body,title=subject`.
        tally: Counts the records, and the rows that became none.

    Raises:
        SettingsError: If the mapping is none.
        DataError: If the file cannot be read, or nothing in it could be used.
    """
    fields = parse_map(mapping) if mapping is not None else {}
    return _records(_mapped(csv.read(path, tally.fault), fields, tally), tally)


def import_git(
    repository: Path, *, limit: int | None = None, min_words: int = 3, tally: Tally
) -> Iterator[Document | Query]:
    """The commits of a repository as documents, a user for each author.

    Raises:
        DataError: If it is no repository, or nothing in it could be used.
        MissingError: If there is no git.
    """
    lines = git.read(repository, tally.fault, limit=limit, min_words=min_words, on_short=tally.short)
    return _records(lines, tally)


def split_rule(questions: Path) -> str:
    """How LaMP questions are split, as their first file shows.

    Raises:
        DataError: If there are none.
    """
    names_users = lamp.names_users(_questions(questions)[0])
    return "by time: questions name their users" if names_users else "by user: each question is a user of its own"


def _questions(path: Path) -> list[Path]:
    files = [file for file in expand([path]) if detect(file) == "lamp"]
    if not files:
        raise DataError(f"{path}: no questions of LaMP", hint="a list of objects with id, input and profile")
    return files


def _mapped(lines: Iterable[Line], mapping: dict[str, str], tally: Tally) -> Iterator[Line]:
    for line in lines:
        try:
            yield apply(line, mapping)
        except DataError as error:
            tally.fault(error, line.fields)


def _records(lines: Iterable[Line], tally: Tally) -> Iterator[Document | Query]:
    for line in lines:
        try:
            record = jsonl.document_or_query(line)
        except DataError as error:
            tally.fault(error, line.fields)
            continue
        if isinstance(record, Query):
            tally.queries += 1
        else:
            tally.documents += 1
        yield record
    if tally.first_fault and not tally.documents + tally.queries:
        raise tally.first_fault
