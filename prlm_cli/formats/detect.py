"""Which format an input is in: by its name, and for JSON, Parquet and saved data sets by what they begin with."""

from __future__ import annotations

import re
from pathlib import Path

from prlm_cli.core import jsonl
from prlm_cli.core.errors import DataError
from prlm_cli.formats import datasets, parquet
from prlm_cli.formats.arrays import OPENING

_BY_SUFFIX = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
}
_HEAD = 2**16  # bytes; an input is far shorter than that
_PROFILE = re.compile(rb'"profile"\s*:\s*[\[{]')
_RECORD = re.compile(rb'"(?:user_id|profile)"\s*:')
_LAMP_COLUMNS = {"input", "profile"}


def detect(path: Path) -> str:
    """The name of the format; JSONL for a stream, and where the name says nothing.

    Raises:
        DataError: If the input cannot be read, or is a folder that is no saved data set.
    """
    if path == jsonl.STDIN or path.is_fifo():
        return "jsonl"
    if path.is_dir():
        if not datasets.is_saved_dataset(path):
            raise DataError(f"{path} is a directory", hint="name files, or a folder of `save_to_disk`")
        return "lamp" if {*datasets.columns(path)} >= _LAMP_COLUMNS else "datasets"
    found = _BY_SUFFIX.get(_suffix(path), "jsonl")
    if found == "parquet" and {*parquet.columns(path)} >= _LAMP_COLUMNS:
        return "lamp"
    if _suffix(path) == ".json" and _is_lamp(_head(path)):
        return "lamp"
    return found


def is_recognised(path: Path) -> bool:
    """Whether a file in a folder is taken for data: by its name; JSON and CSV only where they begin with records."""
    suffix = _suffix(path)
    if suffix == ".json":
        return bool(_RECORD.search(_head(path)))
    if suffix in (".csv", ".tsv"):
        return b"user_id" in _head(path).partition(b"\n")[0]
    return suffix in _BY_SUFFIX


def _is_lamp(head: bytes) -> bool:
    opening = OPENING.match(head)
    # An object around the array is LaMP's way of writing golds.
    return bool(opening and (b"golds" in opening[0] or _PROFILE.search(head)))


def _suffix(path: Path) -> str:
    """The end of a name that tells the format, without that of an archive."""
    return Path(path.name.removesuffix(".gz").removesuffix(".zst")).suffix.lower()


def _head(path: Path) -> bytes:
    with jsonl.open_stream(path) as stream, jsonl.naming_damage(str(path)):
        return stream.read(_HEAD)
