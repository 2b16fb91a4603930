"""What our trainers do beside training: report progress, write the log, watch, evaluate, stop on a signal."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from prlm_cli.core.errors import PrlmError
from prlm_cli.core.reporting import Stage
from prlm_cli.core.settings import WatchdogSettings
from prlm_cli.training.collectives import highest
from prlm_cli.training.peak_memory import peak_memory_bytes
from prlm_cli.training.watchdog import Alarm, Figures, Watchdog

Log = Callable[[dict[str, Any]], None]


class Diverged(PrlmError):
    """A reward is not finite, or there is none."""

    exit_code = 70


class NotFinite(Diverged):
    """The loss, the gradient or the policy's scores are not finite: its weights are lost.

    Args:
        what: Which of them.
        step: When.
    """

    def __init__(self, what: str, step: int) -> None:
        super().__init__(f"{what} is not finite at step {step}", hint="lower the learning rate")
        self.step = step


class ReportProgress(TrainerCallback):  # type: ignore[misc]
    """Hands each step's figures to the progress line and the log, and stops at the first that is not finite.

    To those of the trainer it adds the peak memory, and tokens a second of a step (prompts and completions, evaluation
    aside), where the trainer counts tokens.

    Args:
        stage: The progress line.
        log: Takes one step's figures.
        shown: Figures -> their names in the progress line.
    """

    def __init__(self, stage: Stage, log: Log, shown: Mapping[str, str]) -> None:
        self._stage = stage
        self._log = log
        self._shown = shown
        self._also: dict[str, float] = {}
        self._tokens = 0.0
        self._started = time.monotonic()

    def show(self, **figures: float) -> None:
        """Shows figures that the trainer does not know from the next step on."""
        self._also |= figures

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Knows how many tokens were seen before, where a run goes on."""
        self._tokens = state.num_input_tokens_seen

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, Any], **_: object
    ) -> None:
        """Reports the figures of a step.

        Raises:
            NotFinite: If the loss or the gradient norm is not finite.
        """
        if "loss" not in logs:
            return
        for name in ("loss", "grad_norm"):
            if not math.isfinite(float(logs.get(name, 0.0))):
                raise NotFinite(name, state.global_step)
        figures = numbers(logs) | {"peak_memory_gb": round(peak_memory_bytes() / 1e9, 3)} | self._pace(logs)
        self._log({"step": state.global_step, "seconds": round(time.monotonic() - self._started, 2), **figures})
        shown = {label: figures[name] for name, label in self._shown.items() if name in figures}
        self._stage(state.global_step, state.max_steps, **shown, **self._also)

    def _pace(self, logs: Mapping[str, Any]) -> dict[str, float]:
        tokens, seconds = logs.get("num_tokens"), logs.get("step_time")
        if tokens is None or not seconds:
            return {}
        new, self._tokens = tokens - self._tokens, tokens
        return {"tokens_per_second": round(new / seconds, 1)}


def numbers(logs: Mapping[str, Any]) -> dict[str, float]:
    """The figures of a step that are numbers: a reward that applied to nothing is none."""
    return {name: value for name, value in logs.items() if isinstance(value, int | float)}


class Watch(TrainerCallback):  # type: ignore[misc]
    """Holds each step's figures against the watchdog; `stopped_by` is the signal that ended the training.

    Args:
        settings: Of the watchdog.
        earlier: Step -> its figures, of a run that goes on; those of later steps do not count.
        tell: Takes the step and what is wrong.
    """

    def __init__(
        self, settings: WatchdogSettings, earlier: Mapping[int, Figures], tell: Callable[[int, Alarm], None]
    ) -> None:
        self._settings = settings
        self._earlier = earlier
        self._tell = tell
        self._watchdog = Watchdog(settings)
        self._also: Figures = {}
        self.stopped_by: str | None = None

    def add(self, figures: Figures) -> None:
        """Takes figures that the trainer does not know; they count with those that it logs next."""
        self._also = figures

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Knows the steps that were made before."""
        history = [figures for step, figures in self._earlier.items() if step <= state.global_step]
        self._watchdog = Watchdog(self._settings, history)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, Any], **_: object
    ) -> None:
        """Tells what is wrong, and ends the training where the signal is to."""
        if "loss" not in logs:
            return
        figures, self._also = {**numbers(logs), **self._also}, {}
        for alarm in self._watchdog(figures):
            self._tell(state.global_step, alarm)
            if alarm.stops:
                self.stopped_by = self.stopped_by or alarm.signal
                control.should_training_stop = True


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
        """Asks the trainer to save and stop once a signal has come, be it to another process."""
        self._received = highest(self._received or 0) or None
        if self._received and state.global_step % self._every == 0:
            control.should_save = control.should_training_stop = True
        return control

    def _receive(self, number: int, frame: FrameType | None) -> None:
        previous = self._previous[number]
        signal.signal(number, previous)
        self._received = number


class StopTogether(TrainerCallback):  # type: ignore[misc]
    """What one process decides, to save or to stop, all of them do. Comes after all others."""

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> TrainerControl:
        """Asks all processes at the end of a step."""
        control.should_save = bool(highest(control.should_save))
        control.should_training_stop = bool(highest(control.should_training_stop))
        return control

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> TrainerControl:
        """Asks them once a step's figures are known."""
        control.should_training_stop = bool(highest(control.should_training_stop))
        return control


class AtIntervals(TrainerCallback):  # type: ignore[misc]
    """Does something before the first step, every `every` steps and after the last: judges the policy, for example.

    Args:
        act: Takes the step.
        every: Steps between.
    """

    def __init__(self, act: Callable[[int], object], every: int) -> None:
        self._act = act
        self._every = every

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Acts where training starts from."""
        if state.global_step == 0:
            self._act(0)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Acts every `every` steps and after the last."""
        if state.global_step % self._every == 0 or state.global_step == state.max_steps:
            self._act(state.global_step)


class EarlyStop(TrainerCallback):  # type: ignore[misc]
    """Ends the training once so many evaluations in a row have brought no gain; comes after the one that judges.

    Args:
        scores: Step -> held-out score, filled as they come; those of later steps than the present do not count.
        patience: How many evaluations.
    """

    def __init__(self, scores: Mapping[int, float], patience: int) -> None:
        self._scores = scores
        self._patience = patience
        self.has_stopped = False

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Ends it, unless this was the last step anyway."""
        seen = {step: score for step, score in self._scores.items() if step <= state.global_step}
        best = max(seen, key=lambda step: (seen[step], -step), default=0)
        if sum(step > best for step in seen) >= self._patience and state.global_step < state.max_steps:
            self.has_stopped = control.should_training_stop = True
