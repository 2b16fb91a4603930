"""LaMP and LongLaMP: questions that each bring their user's history, and golds in a file of their own.

The layouts (arXiv 2304.11406 and 2407.11016), and what becomes of them:

1. `{split}_questions.json` is a list of `{id, input, profile: [...], user_id?}`; `{split}_outputs.json` beside it holds
   the golds by id. LongLaMP's rows (JSON, Parquet, a saved data set) carry their `output` and have no ids: a query
   gets a hash of its user and input, a document one of its content.
2. Where a question names its user (the split by time), the user's items come back in several questions: an item of the
   same id and content is one document. One whose content differs gets an id of its own, so that neither replaces the
   other. Where it names none (the split by user), it is a user of its own, called after task and question.
3. Each query names the documents that it came with, `doc_ids`, in their order.
4. `text` and `title` of an item are whichever of its fields are the long and the short one; all others go to `meta`.
5. `text` of a query is the user's own material where a label closes the instruction before it (`article:`, `tweet …:`);
   where none does, and where something quoted comes first (references, LongLaMP), it is the whole input. The whole
   input is always kept in `meta`.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

import msgspec

from prlm_cli.core import jsonl
from prlm_cli.core.errors import DataError
from prlm_cli.core.jsonl import Line, OnFault
from prlm_cli.core.records import Document, with_doc_id
from prlm_cli.formats import datasets
from prlm_cli.formats.arrays import read_objects
from prlm_cli.formats.benchmark_rows import read_rows
from prlm_cli.formats.splits import split_named

_TEXTS = ("text", "abstract", "reviewText", "content", "description")
_TITLES = ("title", "tag", "score", "summary")
_DATES = ("date", "year")
_USERS = ("user_id", "reviewerId", "author", "name")
_LABEL = re.compile(r'[^"]{0,600}?\b(?:article|paper|email|review|description|tweet\b[^:"]{0,80})\s*:\s*(?=\S)')
_TASK = re.compile(r"(?:Long)?LaMP[_-]?(?:[a-z]{1,5}[_-])?\d", re.IGNORECASE)
_TASK_OF_OUTPUTS = re.compile(rb'\s*\{\s*"task"\s*:\s*"([\w-]{1,40})"')
_DATE_PARTS = re.compile(r"\d{4}(?:-\d{1,2}){1,5}")
_NO_INPUT = "name the questions; their outputs are found beside them"


def read(
    path: Path,
    on_fault: OnFault | None = None,
    *,
    outputs: Path | None = None,
    histories: Histories | None = None,
) -> Iterator[Line]:
    """The documents and queries of a questions file: of each question its new documents, then the query.

    Args:
        path: The questions: a JSON array, JSONL, Parquet, or a saved data set.
        on_fault: What to do about a fault instead of raising it. A profile item at fault is left out of the history of
            its question; a question at fault goes with its whole history.
        outputs: The golds; without it, those of the outputs file beside the questions, if there is one.
        histories: Shared by files whose users are the same people, such as the splits of a task.

    Raises:
        DataError: If a file cannot be read, or something in it is at fault and there is no `on_fault`.
    """
    outputs = outputs or outputs_beside(path)
    golds = None if outputs is None else _read_golds(outputs, on_fault)
    task = (_task_of(outputs) if outputs else None) or _task_in(path)
    histories = histories or Histories()
    for split, (where, question) in _questions(path, on_fault):
        try:
            query = _query(where, question, task, split)
            if golds is not None:
                query["target"] = _gold(where, query["query_id"], golds)
            items = _items(where, question)
        except DataError as error:
            if on_fault is None:
                raise
            on_fault(error, question)
            continue
        documents, query["doc_ids"] = _history(where, items, query["user_id"], histories, on_fault)
        yield from documents
        yield Line(where, query)


def names_users(path: Path) -> bool:
    """Whether the questions of a file name their users, as in the split by time; decided by the first.

    Raises:
        DataError: If the file cannot be read.
    """
    _, (_, question) = next(_questions(path, lambda *_: None), (None, Line("", {})))
    return _user_of(question) is not None


def outputs_beside(path: Path) -> Path | None:
    """The outputs file that lies beside a questions file, if there is one."""
    name = path.name.replace("questions", "outputs").removesuffix(".gz").removesuffix(".zst")
    places = [path.with_name(name + packed) for packed in ("", ".gz", ".zst")]
    return next((place for place in places if place.is_file()), None) if "questions" in path.name else None


class Histories:
    """Which documents of each user have come, by a hash of their content; SQLite puts many of them on disk."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("", isolation_level=None, check_same_thread=False)  # a file that nobody sees
        self._db.execute(
            "CREATE TABLE seen(user_id TEXT, doc_id TEXT, content BLOB, PRIMARY KEY(user_id, doc_id)) WITHOUT ROWID"
        )

    def of(self, user_id: str) -> dict[str, bytes]:
        """Document id -> hash of its content."""
        return dict(self._db.execute("SELECT doc_id, content FROM seen WHERE user_id = ?", (user_id,)))

    def add(self, user_id: str, known: Mapping[str, bytes]) -> None:
        """Takes down the documents of a user."""
        rows = [(user_id, doc_id, content) for doc_id, content in known.items()]
        self._db.execute("BEGIN")
        self._db.executemany("INSERT OR IGNORE INTO seen VALUES (?, ?, ?)", rows)
        self._db.execute("COMMIT")


def _questions(path: Path, on_fault: OnFault | None) -> Iterator[tuple[str | None, Line]]:
    """The questions of an input, each with its split."""
    named = split_named(path.name) or split_named(path.resolve().parent.name)
    if path.is_dir():
        yield from ((split or named, line) for split, line in datasets.read_splits(path, on_fault))
    else:
        yield from ((named, line) for line in read_rows(path, on_fault, noun="question"))


def _query(where: str, question: Mapping[str, Any], task: str, split: str | None) -> dict[str, Any]:
    """The fields of a question's query, but for the documents that it came with."""
    given = question.get("input")
    if not isinstance(given, str) or not given.strip():
        raise DataError(f"{where}: no field 'input'", hint=_NO_INPUT)
    user, query_id = _user_of(question), _id(question.get("id"))
    if query_id is None:
        if user is None:
            raise DataError(f"{where}: no field 'id'", hint="every question needs id, input and profile")
        query_id = _hash([user, given]).hex()
    used = {"id", "input", "profile", "output", *_USERS, *_DATES}
    return {
        "query_id": query_id,
        "user_id": f"{task}:{query_id}" if user is None else user,
        "text": _material(given),
        **_given(target=_short(question.get("output")), date=_date(question), split=split),
        "meta": {**{name: value for name, value in question.items() if name not in used}, "task": task, "input": given},
    }


def _items(where: str, question: Mapping[str, Any]) -> list[Any]:
    profile = question.get("profile")
    if isinstance(profile, dict) and all(isinstance(column, list) for column in profile.values()):
        # A table by columns, as older versions of `datasets` stored a list of objects.
        return [dict(zip(profile, values, strict=True)) for values in zip_longest(*profile.values())]
    if not isinstance(profile, list):
        raise DataError(f"{where}: no field 'profile'", hint="every question needs id, input and profile")
    return profile


def _history(
    where: str, items: list[Any], user_id: str, histories: Histories, on_fault: OnFault | None
) -> tuple[list[Line], list[str]]:
    """The documents of a question's history that are new, and the ids of all."""
    known = histories.of(user_id)
    new: dict[str, bytes] = {}
    lines: list[Line] = []
    doc_ids: list[str] = []
    for number, item in enumerate(items, start=1):
        content = _hash(item)
        doc_id = _id(item.get("id")) if isinstance(item, dict) else None
        if doc_id is None or known.get(doc_id) != content:  # the common case, and the cheap one, is that it comes back
            place = f"{where}, profile item {number}"
            try:
                fields = _document(place, item, user_id)
            except DataError as error:
                if on_fault is None:
                    raise
                on_fault(error, item)
                continue
            doc_id = fields["doc_id"]
            if known.get(doc_id, content) != content:
                doc_id = fields["doc_id"] = f"{doc_id}~{content.hex()[:8]}"
            if doc_id not in known:
                known[doc_id] = new[doc_id] = content
                lines.append(Line(place, fields))
        doc_ids.append(doc_id)
    histories.add(user_id, new)
    return lines, [*dict.fromkeys(doc_ids)]


def _document(where: str, item: Any, user_id: str) -> dict[str, Any]:
    """The fields of a profile item's document."""
    if not isinstance(item, dict):
        raise DataError(f"{where}: a JSON {type(item).__name__}, not an object", hint="one object an item")
    text, title = (next((name for name in names if name in item), "") for names in (_TEXTS, _TITLES))
    if not isinstance(item.get(text), str) or not item[text].strip():
        raise DataError(f"{where}: no text", hint=f"in one of the fields {', '.join(_TEXTS)}")
    fields = {
        "user_id": user_id,
        "doc_id": _id(item.get("id")),
        "text": item[text],
        **_given(title=_short(item.get(title)), date=_date(item)),
        **_given(meta={name: value for name, value in item.items() if name not in {"id", text, title, *_DATES}}),
    }
    if fields["doc_id"] is None:
        content = Document(user_id=user_id, text=item[text], title=fields.get("title"), date=fields.get("date"))
        fields["doc_id"] = with_doc_id(content).doc_id
    return fields


def _read_golds(path: Path, on_fault: OnFault | None) -> dict[str, str]:
    golds = {}
    for where, gold in read_objects(path, on_fault, noun="gold"):
        gold_id, output = _id(gold.get("id")), _short(gold.get("output"))
        if gold_id is not None and output is not None:
            golds[gold_id] = output
        elif on_fault is None:
            raise DataError(f"{where}: no field 'id' or 'output'", hint="every gold needs both")
        else:
            on_fault(DataError(f"{where}: no field 'id' or 'output'"), gold)
    return golds


def _gold(where: str, query_id: str, golds: Mapping[str, str]) -> str:
    if query_id not in golds:
        raise DataError(f"{where}: no gold for this question", hint="the outputs are of another questions file")
    return golds[query_id]


def _task_of(outputs: Path) -> str | None:
    """The task that an outputs file is of."""
    with jsonl.open_stream(outputs) as stream:
        found = _TASK_OF_OUTPUTS.match(stream.read(200))
    return found[1].decode() if found else None


def _task_in(path: Path) -> str:
    """The task that the folders of a file name, the nearest first."""
    found = _TASK.findall(str(path.resolve()))
    return found[-1] if found else "LaMP"


def _user_of(question: Mapping[str, Any]) -> str | None:
    return next((user for name in _USERS if (user := _id(question.get(name))) is not None), None)


def _id(value: Any) -> str | None:
    """An id, which some files have as a number."""
    return str(value) if isinstance(value, str | int) and value != "" else None


def _short(value: Any) -> str | None:
    """A short text, which is a number for ratings: 5.0 is "5"."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value) if isinstance(value, str | int | float) and value != "" else None


def _date(fields: Mapping[str, Any]) -> str | None:
    """The date in ISO 8601; some files have a year as a number, or months and days of one digit."""
    value = next((fields[name] for name in _DATES if fields.get(name) not in (None, "")), None)
    if value is None:
        return None
    text = str(value).strip()
    if not _DATE_PARTS.fullmatch(text):
        return text
    year, *rest = text.split("-")
    day, time = "-".join([year, *(part.zfill(2) for part in rest[:2])]), ":".join(part.zfill(2) for part in rest[2:])
    return f"{day}T{time}" if time else day


def _material(given: str) -> str:
    """What of an input is the user's own: the text after the label that ends the instruction, if there is one."""
    label = _LABEL.match(given)
    return given[label.end() :].strip() if label else given


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value not in (None, {})}


def _hash(value: Any) -> bytes:
    return hashlib.blake2b(msgspec.json.encode(value, order="deterministic"), digest_size=8).digest()
