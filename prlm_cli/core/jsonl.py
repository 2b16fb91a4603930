"""Record streams: JSON Lines in and out. `-` is standard input. Errors name file, line and field."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import re
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import msgspec

from prlm_cli.core import records
from prlm_cli.core.errors import DataError, StorageError
from prlm_cli.core.records import Record

MAX_LINE_BYTES = 16 * 2**20
STDIN = Path("-")
_BOM = b"\xef\xbb\xbf"
_ENCODER = msgspec.json.Encoder()
_CONTAINERS = (dict, list)
_QUOTE_AND_COLON = re.compile(rb'"[ \t\r]*:')


class Line(NamedTuple):
    """One decoded line and where it stands."""

    where: str
    fields: dict[str, Any]


def encode(record: msgspec.Struct) -> bytes:
    """The record as one line of JSON, newline included."""
    return _ENCODER.encode(record) + b"\n"


def read_lines(path: Path, on_fault: Callable[[DataError], None] | None = None) -> Iterator[Line]:
    """The JSON objects of a file (or of standard input, for `-`), one by one.

    Blank lines are passed over; a byte order mark and CRLF are accepted; `.gz` is unpacked.

    Raises:
        DataError: If the file cannot be read, or a line is not one JSON object.
    """
    name = "<stdin>" if path == STDIN else str(path)
    with _open(path) as stream:
        for number, line in enumerate(_lines(name, stream), start=1):
            where = f"{name}:{number}"
            text = line.removeprefix(_BOM) if number == 1 else line
            if len(text) > MAX_LINE_BYTES:
                raise DataError(f"{where}: line longer than {MAX_LINE_BYTES // 2**20} MB", hint="split the record")
            if text.strip():
                try:
                    fields = _decode(where, text)
                except DataError as error:
                    if on_fault is None:
                        raise
                    on_fault(error)
                else:
                    yield Line(where, fields)


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


def write(path: Path, items: Iterable[msgspec.Struct], *, force: bool = False) -> int:
    """Writes records to a file in one atomic step and returns how many.

    Raises:
        DataError: If the file exists and `force` is not set.
        StorageError: If it cannot be written.
    """
    if path.exists() and not force:
        raise DataError(f"{path} exists", hint="use --force to replace it")
    count = 0
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}", hint="check the folder and its permissions") from error
    try:
        with os.fdopen(handle, "wb") as stream:
            for item in items:
                stream.write(encode(item))
                count += 1
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).replace(path)
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}", hint="free some space or check the permissions") from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            Path(temporary).unlink()
    return count


def _open(path: Path) -> contextlib.AbstractContextManager[IO[bytes]]:
    if path == STDIN:
        return contextlib.nullcontext(sys.stdin.buffer)
    if path.is_dir():
        raise DataError(f"{path} is a directory", hint="name a JSONL file, or - for standard input")
    try:
        return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file", hint="name a JSONL file, or - for standard input") from error
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}") from error


def _lines(name: str, stream: IO[bytes]) -> Iterator[bytes]:
    try:
        yield from iter(lambda: stream.readline(MAX_LINE_BYTES + 1), b"")
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{name}: {error}", hint="the file is damaged") from error


def _decode(where: str, line: bytes) -> dict[str, Any]:
    try:
        line.decode()
    except UnicodeDecodeError as error:
        raise DataError(
            f"{where}: not UTF-8 (byte {error.start + 1} of the line)", hint="convert the file, for example with iconv"
        ) from error
    try:
        fields = msgspec.json.decode(line)
        if _may_repeat_a_key(line, fields):
            json.loads(line, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:  # a decode error is a ValueError
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise DataError(f"{where}: not valid JSON ({reason})", hint="each line must be one JSON object") from error
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
