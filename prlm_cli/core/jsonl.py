"""Record streams: JSON Lines in and out. `-` is standard input. Errors name file, line and field."""

from __future__ import annotations

import contextlib
import io
import re
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import IO, Any, NamedTuple

import msgspec

from prlm_cli.core import records
from prlm_cli.core.dates import parse_period
from prlm_cli.core.errors import DataError, StorageError
from prlm_cli.core.files import replace_file
from prlm_cli.core.records import Document, Query, Record, with_doc_id
from prlm_cli.core.zstd import ZstdFile

MAX_LINE_BYTES = 16 * 2**20
STDIN = Path("-")
_BOM = b"\xef\xbb\xbf"
_ENCODER = msgspec.json.Encoder()
_CONTAINERS = (dict, list)
_QUOTE_AND_COLON = re.compile(rb'"[ \t\r]*:')
_DOCUMENT = re.compile(rb"\s*(?:\[\s*(?:\{|$)|\{\s*$)")  # how a list of objects begins, or an object over several lines

OnFault = Callable[[DataError, Any], None]
"""What to do about a fault instead of raising it; the second argument is what was rejected, a line or its fields."""


class _PlainDocument(Document, forbid_unknown_fields=True, kw_only=True, frozen=True, omit_defaults=True, gc=False):
    """What most lines are."""


_PLAIN = msgspec.json.Decoder(_PlainDocument)


class Line(NamedTuple):
    """One decoded line and where it stands."""

    where: str
    fields: dict[str, Any]


def encode(record: msgspec.Struct) -> bytes:
    """The record as one line of JSON, newline included."""
    return _ENCODER.encode(record) + b"\n"


def read_lines(path: Path, on_fault: OnFault | None = None) -> Iterator[Line]:
    """The JSON objects of a file (or of standard input, for `-`), one by one.

    Blank lines are passed over; a byte order mark and CRLF are accepted; `.gz` and `.zst` are unpacked.

    Raises:
        DataError: If the file cannot be read, or a line is not one JSON object and there is no `on_fault`.
    """
    name = name_of(path)
    for number, text in _texts(path, name):
        try:
            yield _line(name, number, text)
        except DataError as error:
            if on_fault is None:
                raise
            on_fault(error, _readable(text))


def read_records(
    path: Path, on_fault: OnFault | None = None, *, split: str | None = None
) -> Iterator[Document | Query]:
    """The documents and queries of a file, one by one, as `read_lines` and `document_or_query` would give them.

    Args:
        path: The file.
        on_fault: What to do about a line that is no record.
        split: The split of queries that name none.

    Raises:
        DataError: If the file cannot be read, or a line is no record and there is no `on_fault`.
    """
    name = name_of(path)
    for number, text in _texts(path, name):
        record: Document | Query | None = _plain_document(text)
        if record is None:
            try:
                record = document_or_query(_line(name, number, text), split=split)
            except DataError as error:
                if on_fault is None:
                    raise
                on_fault(error, _readable(text))
                continue
        yield record


def document_or_query(line: Line, *, split: str | None = None) -> Document | Query:
    """The record of a line: a query if it has a `query_id`, else a document, with an id.

    Args:
        line: The line.
        split: The split of a query that names none.

    Raises:
        DataError: If it is neither.
    """
    where, fields = line
    if "query_id" in fields:
        return check_date(where, validate(where, {**fields, "split": fields.get("split") or split}, Query))
    return check_date(where, with_doc_id(validate(where, fields, Document)))


def _plain_document(text: bytes) -> Document | None:
    """The document of a line with nothing unusual in it, in a tenth of the time; None is for the long way to say."""
    try:
        document = _PLAIN.decode(text)
        if document.date is not None:
            parse_period(document.date)
    except (ValueError, OverflowError, OSError):
        return None
    # As many pairs of quote and colon as fields: no key stands twice, and no text holds such a pair.
    fields = 2 + (document.title is not None) + (document.date is not None) + bool(document.doc_id)
    is_plain = text.count(b'":') == fields and b"\\u0000" not in text
    return with_doc_id(document) if is_plain and document.user_id and document.text else None


def read(path: Path, kind: type[Record]) -> Iterator[Record]:
    """The records of a file, validated as `kind`.

    Raises:
        DataError: If a line is not a valid record.
    """
    for where, fields in read_lines(path):
        yield validate(where, fields, kind)


def validate(where: str, fields: dict[str, Any], kind: type[Record]) -> Record:
    """A record of `kind`, its ids and texts checked.

    Raises:
        DataError: If a field is missing, empty where it must not be, or of the wrong type.
    """
    try:
        record = records.convert(kind, fields)
    except msgspec.ValidationError as error:
        raise DataError(f"{where}: {_reword(str(error))}", hint=_needs(kind)) from error
    for name in ("user_id", "text", "query_id"):
        if getattr(record, name, "filled") == "":
            raise DataError(f"{where}: field '{name}' is empty", hint=_needs(kind))
    for name in ("user_id", "text", "query_id", "doc_id", "title", "target"):
        if "\x00" in (getattr(record, name, None) or ""):
            raise DataError(f"{where}: field '{name}' holds a NUL character", hint="remove it")
    return record


def check_date(where: str, record: Record) -> Record:
    """A record whose date, if it has one, is a date; an empty one is none.

    Raises:
        DataError: If it is not a date.
    """
    date = getattr(record, "date", None)
    if date is None:
        return record
    if date == "":
        return msgspec.structs.replace(record, date=None)
    try:
        parse_period(date)
    except (ValueError, OverflowError, OSError) as error:
        raise DataError(f"{where}: field 'date' is not a date", hint="ISO 8601 or epoch seconds") from error
    return record


def write(path: Path, items: Iterable[msgspec.Struct], *, force: bool = False) -> int:
    """Writes records to a file in one atomic step and returns how many.

    Raises:
        DataError: If the file exists and `force` is not set.
        StorageError: If it cannot be written.
    """
    if path.exists() and not force:
        raise DataError(f"{path} exists", hint="use --force to replace it")
    written = 0

    def lines() -> Iterator[bytes]:
        nonlocal written
        for item in items:
            yield encode(item)
            written += 1

    replace_file(path, lines())
    return written


def name_of(path: Path) -> str:
    """What messages call an input."""
    return "<stdin>" if path == STDIN else str(path)


def open_stream(path: Path) -> contextlib.AbstractContextManager[IO[bytes]]:
    """The bytes of a file, unpacked where its name ends in `.gz` or `.zst`, or of standard input.

    Raises:
        DataError: If there is no such file, or it is a directory.
        StorageError: If it may not be read.
    """
    if path == STDIN:
        return contextlib.nullcontext(sys.stdin.buffer)
    if path.is_dir():
        raise DataError(f"{path} is a directory", hint="name a JSONL file, or - for standard input")
    try:
        if path.suffix == ".zst":
            return io.BufferedReader(ZstdFile(path.open("rb")))
        if path.suffix == ".gz":
            import gzip

            return gzip.open(path, "rb")  # type: ignore[return-value]
        return path.open("rb")
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file", hint="name a JSONL file, or - for standard input") from error
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}") from error


@contextlib.contextmanager
def naming_damage(name: str) -> Iterator[None]:
    """A block in which what a damaged archive or disk raises becomes a `DataError` that names the file."""
    try:
        yield
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{name}: {error}", hint="the file is damaged") from error


def lines_of(name: str, stream: IO[bytes]) -> Iterator[bytes]:
    """The lines of a stream with their ends, without a byte order mark; a longer one is cut past `MAX_LINE_BYTES`.

    Raises:
        DataError: If the stream is damaged.
    """
    with naming_damage(name):
        first = stream.readline(MAX_LINE_BYTES + 1).removeprefix(_BOM)
        yield from chain([first] if first else [], iter(partial(stream.readline, MAX_LINE_BYTES + 1), b""))


def _texts(path: Path, name: str) -> Iterator[tuple[int, bytes]]:
    """The lines of a file that are not blank, numbered from 1.

    Raises:
        DataError: If the file is one JSON document.
    """
    is_first = True
    with open_stream(path) as stream:
        for number, text in enumerate(lines_of(name, stream), start=1):
            if text.isspace():
                continue
            if is_first and _DOCUMENT.match(text):
                raise DataError(
                    f"{name}:{number}: one JSON document, not one object a line",
                    hint="jq -c '.[]' FILE makes lines of a list, jq -c . FILE of an object",
                )
            is_first = False
            yield number, text


def _line(name: str, number: int, text: bytes) -> Line:
    where = f"{name}:{number}"
    if len(text) > MAX_LINE_BYTES:
        raise too_long(where)
    return Line(where, decode(where, text))


def _readable(text: bytes) -> str:
    return text.decode(errors="backslashreplace").rstrip("\r\n")


def too_long(where: str) -> DataError:
    """The error of a record longer than `MAX_LINE_BYTES`."""
    return DataError(f"{where}: line longer than {MAX_LINE_BYTES // 2**20} MB", hint="split the record")


def decode(where: str, line: bytes) -> dict[str, Any]:
    """The JSON object in some bytes.

    Raises:
        DataError: If they are not UTF-8, not JSON (NaN and repeated keys are not), or not an object.
    """
    try:
        line.decode()
    except UnicodeDecodeError as error:
        raise DataError(
            f"{where}: not UTF-8 (byte {error.start + 1} of the line)", hint="convert the file, for example with iconv"
        ) from error
    try:
        fields = msgspec.json.decode(line)
        if _may_repeat_a_key(line, fields):
            import json

            json.loads(line, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:  # a decode error is a ValueError
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise DataError(f"{where}: not valid JSON ({reason})", hint="each record must be one JSON object") from error
    if not isinstance(fields, dict):
        raise DataError(f"{where}: a JSON {type(fields).__name__}, not an object", hint="one object a line")
    return fields


def _may_repeat_a_key(line: bytes, decoded: Any) -> bool:
    """Whether a key may stand twice in one object; decoders keep the last without a word.

    A colon follows the closing quote of every key, so where there are no more such pairs than decoded keys, none got
    lost. Text may hold a quote and a colon as well; such a line is decoded again to be sure, at ten times the cost.
    """
    return len(_QUOTE_AND_COLON.findall(line)) != _count_keys(decoded)


def _count_keys(value: Any) -> int:
    if isinstance(value, dict):
        return len(value) + sum(_count_keys(item) for item in value.values() if isinstance(item, _CONTAINERS))
    return sum(_count_keys(item) for item in value) if isinstance(value, list) else 0


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"key '{next(name for name in names if names.count(name) > 1)}' stands twice")
    return fields


def _reword(message: str) -> str:
    """Msgspec's sentence in the words of this program, with the field first."""
    if message.startswith("Object missing required field"):
        name, _, path = message.removeprefix("Object missing required field `").partition("` - at `$.")
        return f"no field '{name.strip('`')}'" + (f" in '{path.strip('`')}'" if path else "")
    reason, _, path = message.partition(" - at ")
    field = path.strip("`").removeprefix("$.")
    return f"field '{field}': {reason[0].lower()}{reason[1:]}".replace("`", "") if field else reason.replace("`", "")


def _needs(kind: type[msgspec.Struct]) -> str:
    needed = [field.name for field in msgspec.structs.fields(kind) if field.required]
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", kind.__name__).lower()
    return f"every {name} needs {', '.join(needed[:-1])} and {needed[-1]}"
