"""TensorBoard, trackio and wandb, through transformers' own callbacks: they get figures, and nobody's text.

They write below one folder of the workspace, except for trackio, which has one of its own. wandb sends what it gets to
its servers, unless the process is offline; the others send nothing anywhere. Beside the figures they get the trainer's
arguments and the model's configuration.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import TensorBoardCallback, TrackioCallback, WandbCallback

from prlm_cli.core.network import is_offline
from prlm_cli.training.callbacks import numbers


def tracker_callbacks(names: Sequence[str], folder: Path, run: str) -> list[TrainerCallback]:
    """A callback for each tracker.

    Args:
        names: Of the trackers; their packages are there.
        folder: Where they write, each in a folder of its name.
        run: Its name.
    """
    make = {"tensorboard": _tensorboard, "trackio": _trackio, "wandb": _wandb}
    return [_Quietly(make[name](folder / name, run)) for name in names]


class _Quietly(TrainerCallback):  # type: ignore[misc]
    """A tracker that prints nothing, since stdout carries data, and is given numbers only."""

    def __init__(self, tracker: TrainerCallback) -> None:
        self._tracker = tracker

    def on_train_begin(self, *given: Any, **options: Any) -> None:
        """Opens it."""
        with _silence():
            self._tracker.on_train_begin(*given, **options)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any],
        **options: Any,
    ) -> None:
        """Hands on the figures of a step."""
        with _silence():
            self._tracker.on_log(args, state, control, logs=numbers(logs), **options)

    def on_train_end(self, *given: Any, **options: Any) -> None:
        """Closes it."""
        with _silence():
            self._tracker.on_train_end(*given, **options)


def _tensorboard(folder: Path, run: str) -> TrainerCallback:
    tracker = TensorBoardCallback()
    tracker.logging_dir = str(folder / run)
    return tracker


def _trackio(folder: Path, run: str) -> TrainerCallback:
    return TrackioCallback()  # its folder is fixed as it is imported, which accelerate has done by now


def _wandb(folder: Path, run: str) -> TrainerCallback:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.environ |= {
        "WANDB_DIR": str(folder),
        "WANDB_PROJECT": "prlm",
        "WANDB_LOG_MODEL": "false",
        "WANDB_CONSOLE": "off",  # it would send what is printed
        "WANDB_DISABLE_CODE": "true",
        "WANDB_DISABLE_GIT": "true",
        "WANDB_SILENT": "true",
    }
    if is_offline():
        os.environ["WANDB_MODE"] = "offline"
    return WandbCallback()


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield
