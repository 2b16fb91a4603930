"""Preference following in the form of RealPref (arXiv 2603.04191): conversations, a preference in them, a question.

A row, of JSONL, a JSON array or Parquet, has these fields; their names are ours, for the paper gives none:

    user         whose conversation it is
    turns        [{role, content}], what was said before; each turn of the user with the reply to it is a document
    question     what is asked now
    kind         choice, true_false or open
    options      of a choice: the texts; true_false has True and False where it names none
    gold         of a choice: the place (from 0) or the text of the right option; of true_false also a boolean
    preference   what the judge is told the user wants; the policy never sees it
    expression   how it was expressed, such as explicit or implicit: the figures are told apart by it
    answers      of an open question, two given answers to judge, beside those of the policy
    label        of these, what a person preferred: a, b or tie
    id           of the row; else its place in the file
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from prlm_cli.core.errors import DataError
from prlm_cli.core.jsonl import Line, OnFault
from prlm_cli.formats.benchmark_rows import read_rows

_QUOTED = re.compile(r"enum value '.*'", re.DOTALL)
_TRUE_FALSE = ["True", "False"]


class _Turn(msgspec.Struct):
    role: str
    content: str


class _Row(msgspec.Struct):
    user: str | int
    question: str
    kind: Literal["choice", "true_false", "open"]
    turns: list[_Turn] = []
    options: list[str] = []
    gold: bool | int | str | None = None
    preference: str | None = None
    expression: str = ""
    answers: list[str] | None = None
    label: Literal["a", "b", "tie"] | None = None
    id: str | int | None = None


def read(path: Path, on_fault: OnFault | None = None) -> Iterator[Line]:
    """The documents and the query of each row; what only the evaluation may see is in the query's `meta`.

    Raises:
        DataError: If the file cannot be read, or a row is at fault and there is no `on_fault`.
    """
    for number, (where, fields) in enumerate(read_rows(path, on_fault), start=1):
        try:
            row = _row(where, fields)
            meta = _meta(where, row)
        except DataError as error:
            if on_fault is None:
                raise
            on_fault(error, fields)
            continue
        query_id = str(number if row.id is None else row.id)
        documents = list(_documents(where, row, query_id))
        yield from documents
        query = {"query_id": query_id, "user_id": str(row.user), "text": row.question, "meta": meta}
        yield Line(where, query | {"doc_ids": [line.fields["doc_id"] for line in documents]})


def _row(where: str, fields: Mapping[str, Any]) -> _Row:
    given = {name: value for name, value in fields.items() if value is not None}
    try:
        row = msgspec.convert(given, _Row)
    except msgspec.ValidationError as error:
        why = _QUOTED.sub("value", str(error))  # it may be a user's text in the wrong field
        raise DataError(f"{where}: {why}", hint="every row needs user, question and kind") from None
    if not row.question.strip():
        raise DataError(f"{where}: no text in field 'question'", hint="every row needs user, question and kind")
    return row


def _meta(where: str, row: _Row) -> dict[str, Any]:
    meta: dict[str, Any] = {"kind": row.kind, "expression": row.expression, "preference": row.preference}
    if row.kind != "open":
        options = row.options or (_TRUE_FALSE if row.kind == "true_false" else [])
        return meta | {"options": options, "gold": _gold(where, row.gold, options)}
    if row.answers is not None and len(row.answers) != 2:
        raise DataError(f"{where}: {len(row.answers)} answers to judge", hint="give two, or none")
    return meta | {"answers": row.answers, "label": row.label}


def _gold(where: str, gold: bool | int | str | None, options: list[str]) -> int:
    """The place of the right option."""
    if not 2 <= len(options) <= 26 or len({*options}) != len(options):
        raise DataError(f"{where}: the options are not 2 to 26 different texts", hint="check the field 'options'")
    named = [option.strip().lower() for option in options]
    text = str(gold).strip().lower()
    place = named.index(text) if isinstance(gold, bool | str) and text in named else gold
    if isinstance(place, bool) or not isinstance(place, int) or not 0 <= place < len(options):
        raise DataError(f"{where}: gold is none of the options", hint="give its place, from 0, or its text")
    return place


def _documents(where: str, row: _Row, query_id: str) -> Iterator[Line]:
    """Each turn of the user, titled with the reply to it."""
    following = [*row.turns[1:], _Turn("", "")]
    for number, (turn, after) in enumerate(zip(row.turns, following, strict=bool(row.turns)), start=1):
        if turn.role == "user" and turn.content.strip():
            reply = {"title": after.content} if after.role == "assistant" and after.content.strip() else {}
            fields = {"user_id": str(row.user), "doc_id": f"{query_id}/{number}", "text": turn.content}
            yield Line(f"{where}, turn {number}", fields | reply)
