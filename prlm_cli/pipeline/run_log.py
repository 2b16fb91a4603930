"""The log of a policy's run, read: the figures of each step, and what the watchdog said."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from prlm_cli.core.workspace import Run
from prlm_cli.training.watchdog import Alarm

HELD_OUT, SWAPPED = "heldout", "heldout_swapped"
"""The held-out score, and that with another user's records."""


class RunLog(NamedTuple):
    """Step -> its figures, in order; and the alarms, each after its step."""

    steps: dict[int, dict[str, float]]
    alarms: list[tuple[int, Alarm]]

    @property
    def held_out(self) -> dict[int, float]:
        """Step -> held-out score, of the steps that have one."""
        return {step: figures[HELD_OUT] for step, figures in self.steps.items() if HELD_OUT in figures}


def read_log(run: Run) -> RunLog:
    """The log of a run; empty before the first step. Of a step that was made twice the later line counts."""
    steps: dict[int, dict[str, float]] = {}
    alarms: dict[tuple[int, str], Alarm] = {}
    for line in _lines(run):
        step = line["step"]
        if "signal" in line:
            alarms[step, line["signal"]] = Alarm(line["signal"], line["text"], line["stops"])
        else:
            steps.setdefault(step, {}).update(line)
    return RunLog(dict(sorted(steps.items())), [(step, alarms[step, name]) for step, name in sorted(alarms)])


def log_alarm(run: Run, step: int, alarm: Alarm) -> None:
    """Writes what the watchdog said into the log."""
    run.append_log({"step": step, **alarm._asdict()})


def _lines(run: Run) -> Iterator[dict[str, Any]]:
    if not run.log.exists():
        return
    with run.log.open(encoding="utf-8") as lines:
        for line in lines:
            try:
                yield json.loads(line)
            except ValueError:  # cut off by a kill
                continue
