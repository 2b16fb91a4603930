"""What our trainers do beside training: report progress, write the log, stop on a signal."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from prlm_cli.core.errors import PrlmError
from prlm_cli.core.reporting import Stage

Log = Callable[[dict[str, Any]], None]


class Diverged(PrlmError):
    """The loss, the gradient or a reward is not finite."""

    exit_code = 70


class ReportProgress(TrainerCallback):  # type: ignore[misc]
    """Hands each step's figures to the progress line and the log, and stops at the first that is not finite.

    Args:
        stage: The progress line.
        log: Takes one step's figures.
        shown: Figures of the trainer -> their names in the progress line.
    """

    def __init__(self, stage: Stage, log: Log, shown: dict[str, str]) -> None:
        self._stage = stage
        self._log = log
        self._shown = shown
        self._started = time.monotonic()

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, Any], **_: object
    ) -> None:
        """Reports the figures of a step.

        Raises:
            Diverged: If the loss or the gradient norm is not finite.
        """
        if "loss" not in logs:
            return
        for name in ("loss", "grad_norm"):
            if not math.isfinite(float(logs.get(name, 0.0))):
                raise Diverged(f"{name} is not finite at step {state.global_step}", hint="lower the learning rate")
        figures = {name: value for name, value in logs.items() if isinstance(value, int | float)}
        self._log({"step": state.global_step, "seconds": round(time.monotonic() - self._started, 2), **figures})
        shown = {label: float(logs[name]) for name, label in self._shown.items() if name in logs}
        self._stage(state.global_step, state.max_steps, **shown)


class StopOnSignal(TrainerCallback):  # type: ignore[misc]
    """On the first SIGTERM or Ctrl-C: finishes the step, saves a checkpoint and stops. A second one stops at once.

    Use it as a context manager around the training; it raises at its end what the signal asks for.

    Args:
        every: A checkpoint can be gone on from after every so many steps; it waits for such a one.
    """

    def __init__(self, every: int = 1) -> None:
        self._every = every
        self._received: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopOnSignal:
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._receive)
        except ValueError:  # not the main thread: the caller keeps its own handling
            self._previous = {}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        if self._received == signal.SIGINT:
            raise KeyboardInterrupt
        if self._received == signal.SIGTERM:
            raise SystemExit(143)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> TrainerControl:
        """Asks the trainer to save and stop once a signal has come."""
        if self._received and state.global_step % self._every == 0:
            control.should_save = control.should_training_stop = True
        return control

    def _receive(self, number: int, frame: FrameType | None) -> None:
        previous = self._previous[number]
        signal.signal(number, previous)
        self._received = number


class EvaluateHeldOut(TrainerCallback):  # type: ignore[misc]
    """Judges the policy before the first step, every `every` steps and at the end.

    Args:
        judge: Takes the step; scores the policy on held-out queries and keeps the best adapter.
        every: Steps between evaluations.
    """

    def __init__(self, judge: Callable[[int], float], every: int) -> None:
        self._judge = judge
        self._every = every

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Judges where training starts from."""
        if state.global_step == 0:
            self._judge(0)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Judges every `every` steps and after the last."""
        if state.global_step % self._every == 0 or state.global_step == state.max_steps:
            self._judge(state.global_step)
