"""Watching a policy's training: what is shown and logged of each step, and what ends it before its last one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from prlm_cli.core.errors import MissingError
from prlm_cli.core.reporting import Reporter
from prlm_cli.core.settings import Config
from prlm_cli.core.workspace import Run
from prlm_cli.pipeline.run_log import HELD_OUT, SWAPPED, log_alarm, read_log
from prlm_cli.rewards import Reward, RewardContext
from prlm_cli.rewards.named import reward_named
from prlm_cli.training.watchdog import Alarm

if TYPE_CHECKING:
    from transformers import TrainerCallback

    from prlm_cli.training.callbacks import NotFinite

EARLY_STOP, NOT_FINITE = "early_stop", "not_finite"
_JUDGED = {HELD_OUT: "held-out", SWAPPED: "swapped"}


class Watching:
    """Shows and logs the figures of a run, and knows why it ended.

    Args:
        run: Its log is written; that of a run which goes on is read first.
        config: Of the run.
        reporter: Told what is wrong, and of progress.
    """

    def __init__(self, run: Run, config: Config, reporter: Reporter) -> None:
        from prlm_cli.training.callbacks import EarlyStop, ReportProgress, Watch

        self._run = run
        self._reporter = reporter
        earlier = read_log(run)
        self._scores = earlier.held_out
        self._progress = ReportProgress(reporter.stage("GRPO"), run.append_log, _shown(config))
        self._watch = Watch(config.watchdog, earlier.steps, self.tell)
        patience = config.policy.early_stop
        self._early_stop = EarlyStop(self._scores, patience) if patience else None
        self.is_finite = True

    def callbacks(self, evaluate: Callable[[int], object], every: int) -> list[TrainerCallback]:
        """What the trainer calls.

        Args:
            evaluate: Takes the step; says to `judged` what the held-out score is.
            every: Steps between evaluations.
        """
        from prlm_cli.training.callbacks import AtIntervals

        callbacks = [self._progress, self._watch, AtIntervals(evaluate, every)]
        return [*callbacks, self._early_stop] if self._early_stop else callbacks

    def judged(self, step: int, figures: Mapping[str, float]) -> None:
        """What came of the held-out queries after a step: their score, and what else is known of them."""
        self._scores[step] = figures[HELD_OUT]
        self._run.append_log({"step": step, **figures})
        self._progress.show(**{label: figures[name] for name, label in _JUDGED.items() if name in figures})
        self._watch.add(figures)

    def tell(self, step: int, alarm: Alarm) -> None:
        """Says what is wrong, and logs it."""
        log_alarm(self._run, step, alarm)
        self._reporter.note(f"step {step}: {alarm.text}{'; stopped' if alarm.stops else ''}")

    def has_diverged(self, error: NotFinite) -> None:
        """The training has ended with weights that are no numbers."""
        self.is_finite = False
        self.tell(error.step, Alarm(NOT_FINITE, str(error), stops=True))

    @property
    def stopped_by(self) -> str | None:
        """What ended the training before its last step: a signal, `early_stop` or `not_finite`."""
        if not self.is_finite:
            return NOT_FINITE
        if self._early_stop and self._early_stop.has_stopped:
            return EARLY_STOP
        return self._watch.stopped_by

    def as_dict(self) -> dict[str, Any]:
        """For the run's metrics: the steps that were made and, where it applies, what ended it and what was wrong."""
        log = read_log(self._run)
        found: dict[str, Any] = {"steps": max(log.steps, default=0)}
        if self.stopped_by:
            found["stopped_by"] = self.stopped_by
        if log.alarms:
            found["warnings"] = sorted({alarm.signal for _, alarm in log.alarms})
        return found


def check_trackers(names: Iterable[str]) -> None:
    """Makes sure that the packages of some trackers are there.

    Raises:
        MissingError: If one is not.
    """
    for name in names:
        if find_spec(name) is None:
            raise MissingError(f"policy.trackers: {name} is not installed", hint=f"pip install 'prlm[{name}]'")


def measures(context: RewardContext) -> dict[str, Reward]:
    """What the watchdog wants to know of each completion besides its rewards."""
    from prlm_cli.training.shared_thoughts import SharedThoughts

    return {
        "format": reward_named("format")(context),
        "copy_rate": reward_named("metric:copy_rate")(context),
        "shared_thoughts": SharedThoughts(context.builder),
    }


def _shown(config: Config) -> dict[str, str]:
    """Figures of a step -> what the progress calls them."""
    parts = {f"rewards/{name}/mean": name for name in config.policy.rewards}
    return {
        "reward": "reward",
        **(parts if len(parts) > 1 else {}),
        "kl": "KL",
        "entropy": "entropy",
        "completions/mean_length": "length",
        "tokens_per_second": "tokens/s",
        "peak_memory_gb": "GB",
    }
