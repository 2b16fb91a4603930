"""Which inputs are meant: patterns and folders become the files in them."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from prlm_cli.core import jsonl
from prlm_cli.core.errors import DataError, StorageError
from prlm_cli.formats.datasets import is_saved_dataset
from prlm_cli.formats.detect import is_recognised
from prlm_cli.formats.lamp import outputs_beside


def expand(paths: Iterable[Path]) -> list[Path]:
    """The inputs that paths, patterns (`*`, `**`) and folders stand for, those of each in order of their names.

    A folder stands for all data files below it that are not hidden; one of `save_to_disk` is an input itself. LaMP's
    outputs are read with their questions, so beside these they are no input. Standard input, pipes and files that are
    not there are passed on.

    Raises:
        DataError: If a pattern fits nothing, or a folder holds no data.
    """
    inputs = [file for path in paths for file in _expand(path)]
    read_along = {outputs_beside(path) for path in inputs}
    return [path for path in inputs if path not in read_along]


def _expand(path: Path) -> list[Path]:
    if path == jsonl.STDIN or path.is_file() or path.is_fifo():
        return [path]
    if path.is_dir():
        return _in_folder(path)
    if not glob.has_magic(str(path)):
        return [path]
    # Not Path.glob, which takes hidden files, and no pattern that begins at the root.
    fitting = [Path(name) for name in glob.glob(str(path), recursive=True)]  # noqa: PTH207
    found = {file for entry in fitting for file in (_walk(entry) if entry.is_dir() else [entry])}
    if not found:
        raise DataError(f"{path}: nothing fits this pattern", hint="check the folder and the spelling")
    return sorted(file for file in found if found.isdisjoint(file.parents))  # not what lies in a saved data set


def _in_folder(folder: Path) -> list[Path]:
    found = sorted(_walk(folder))
    if not found:
        raise DataError(f"{folder}: no data in this folder", hint="name the files, or another folder")
    return found


def _walk(folder: Path) -> Iterator[Path]:
    if is_saved_dataset(folder):
        yield folder
        return
    try:
        entries = [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
    except OSError as error:
        raise StorageError(f"{folder}: {error.strerror}", hint="check its permissions") from error
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path))
        elif entry.is_file() and is_recognised(Path(entry.path)):
            yield Path(entry.path)
