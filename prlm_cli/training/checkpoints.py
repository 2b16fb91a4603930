"""Checkpoints that are complete or do not count.

The trainer writes a checkpoint in many files. A manifest with their sizes and hashes, written last, makes it complete;
a run goes on from the newest checkpoint whose manifest verifies.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from prlm_cli.core import ranks
from prlm_cli.core.errors import StorageError
from prlm_cli.core.files import where_disk_ends
from prlm_cli.core.workspace import write_text
from prlm_cli.training.collectives import wait_for_all

_MANIFEST = "manifest.json"
_KEPT = 2
_FREE_SPACE = "free some space and run again"
_NOT_NEEDED = ("training_args.bin", "README.md")  # a pickle that resuming never reads, and an empty model card


def seal(folder: Path) -> None:
    """Completes a checkpoint: syncs its files and writes their manifest."""
    for name in _NOT_NEEDED:
        (folder / name).unlink(missing_ok=True)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != _MANIFEST)
    for path in files:
        _sync(path)
    entries = {str(path.relative_to(folder)): [path.stat().st_size, _sha256(path)] for path in files}
    write_text(folder / _MANIFEST, json.dumps(entries, indent=1))
    _sync(folder)


def is_complete(folder: Path) -> bool:
    """Whether the manifest is there and every file is as it says."""
    try:
        entries = json.loads((folder / _MANIFEST).read_text())
        return all(
            (folder / name).is_file() and (folder / name).stat().st_size == size and _sha256(folder / name) == digest
            for name, (size, digest) in entries.items()
        )
    except (OSError, ValueError, TypeError, AttributeError):  # unreadable, or not of the form that `seal` writes
        return False


def newest_complete(folder: Path) -> Path | None:
    """The newest complete checkpoint of a run."""
    return next((path for path in reversed(_checkpoints(folder)) if is_complete(path)), None)


def step_of(checkpoint: Path) -> int:
    """The optimiser step that a checkpoint was written after."""
    return int(checkpoint.name.rpartition("-")[2])


def newest_step(folder: Path) -> int:
    """The step that a run goes on from; 0 for a fresh start."""
    newest = newest_complete(folder)
    return step_of(newest) if newest else 0


def checkpoint_of(args: TrainingArguments, state: TrainerState) -> Path:
    """Where the trainer writes the checkpoint of the step it is at."""
    return Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"


def train_on(trainer: Any) -> int:
    """Trains from the newest complete checkpoint of the trainer's folder.

    Returns:
        The step that it went on from; 0 for a fresh start.

    Raises:
        StorageError: If a checkpoint cannot be written; the one before is whole.
    """
    folder = Path(str(trainer.args.output_dir))
    newest = newest_complete(folder)
    try:
        trainer.train(resume_from_checkpoint=str(newest) if newest else None)
    except (OSError, RuntimeError, SafetensorError) as error:
        if reason := where_disk_ends(error):
            raise StorageError(f"{folder}: {reason}", hint=_FREE_SPACE) from error
        raise
    return step_of(newest) if newest else 0


class SealCheckpoints(TrainerCallback):  # type: ignore[misc]
    """Completes each checkpoint as it is written, and only then deletes old ones."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Deletes what a kill or a full disk left half written."""
        if not ranks.is_main():
            return
        for path in _checkpoints(Path(str(args.output_dir))):
            if not is_complete(path):
                shutil.rmtree(path)

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> TrainerControl:
        """Seals the checkpoint of this step; keeps the last two complete ones."""
        wait_for_all()  # each process writes a part
        if ranks.is_main():
            self._seal(args, state)
        wait_for_all()  # if a process left, a launcher would end the one that seals
        return control

    def _seal(self, args: TrainingArguments, state: TrainerState) -> None:
        folder = Path(str(args.output_dir))
        try:
            seal(checkpoint_of(args, state))
        except OSError as error:
            raise StorageError(f"{folder}: {error.strerror}", hint=_FREE_SPACE) from error
        complete = [path for path in _checkpoints(folder) if is_complete(path)]
        for path in _checkpoints(folder):
            if path not in complete[-_KEPT:]:
                shutil.rmtree(path)


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob("checkpoint-*"), key=step_of)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
