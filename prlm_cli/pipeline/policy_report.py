"""The page about a policy's training: its curves and what the watchdog said, from the run's log and metrics.

It holds users' text only where samples were asked for, `policy.samples`.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

from markupsafe import Markup

from prlm_cli.core.workspace import Run, write_text
from prlm_cli.pipeline.run_log import HELD_OUT, SWAPPED, read_log
from prlm_cli.pipeline.samples import read_samples
from prlm_cli.report.charts import Axis, Line, line_chart, ticks
from prlm_cli.report.page import Card, cards, figures, heading, page, paragraph, table
from prlm_cli.report.table import Table
from prlm_cli.training.watchdog import COPY_RATE, FORMAT, SHARED_THOUGHTS, Alarm

_WINDOW = 20  # steps behind each median
_MOST_POINTS = 400  # of a line; more would not be seen
_REWARD = "reward"


class _Curve(NamedTuple):
    """A chart: its title, its unit, and the keys of the log that it draws -> their labels."""

    title: str
    unit: str
    keys: Mapping[str, str]


_OTHERS = (
    _Curve("KL to the reference model", "nats a token", {"kl": "KL"}),
    _Curve("Completion length", "tokens", {"completions/mean_length": "mean", "completions/max_length": "longest"}),
    _Curve("Completions cut at the token limit", "share", {"completions/clipped_ratio": "cut"}),
    _Curve("Form and copying", "share", {FORMAT: "well-formed", COPY_RATE: "copied from titles"}),
    _Curve("Thoughts that several queries share", "share", {SHARED_THOUGHTS: "thoughts"}),
    _Curve("Spread of the rewards in a group", "reward", {"reward_std": "standard deviation"}),
    _Curve("Groups whose rewards are all the same", "share", {"frac_reward_zero_std": "groups"}),
    _Curve("Entropy of the policy", "nats a token", {"entropy": "entropy"}),
    _Curve("Clipped importance ratios", "share", {"clip_ratio/region_mean": "clipped"}),
    _Curve("Gradient norm", "norm", {"grad_norm": "norm"}),
    _Curve("Time of a step", "seconds", {"step_time": "step"}),
    _Curve("Peak memory so far", "GB", {"peak_memory_gb": "memory"}),
)


def write_report(run: Run) -> None:
    """Writes the page of a finished run into its folder."""
    seed = tomllib.loads(run.config)["seed"]
    write_text(run.report, html_report(run, run.metrics, seed=seed))


def html_report(run: Run, figures_of: Mapping[str, Any], *, seed: int) -> str:
    """The page about a policy run.

    Args:
        run: Its log is read.
        figures_of: What the run came to, as in its metrics.
        seed: Of the run.
    """
    log, alarms = read_log(run)
    parts = [cards(_summary(figures_of)), heading("Reward and held-out score"), figures(_reward_charts(log))]
    parts += [heading("What the watchdog said"), _told(alarms)]
    if others := [chart for curve in _OTHERS if (chart := _chart(curve, log)) is not None]:
        parts += [heading("The training"), figures(others)]
    parts += _samples(run)
    return page(f"Policy {run.name}", parts, facts=[f"seed {seed}", f"thin: each step; bold: median of {_WINDOW}"])


def _summary(found: Mapping[str, Any]) -> Iterator[Card]:
    names = {
        "steps": "steps",
        "best_step": "best step",
        "best_heldout": "best held-out score",
        "stopped_by": "stopped by",
        "reward_first_quarter": "reward, first quarter",
        "reward_last_quarter": "reward, last quarter",
    }
    for key, name in names.items():
        if key in found:
            value = found[key]
            yield Card(name, f"{value:.4f}" if isinstance(value, float) else str(value))


def _told(alarms: Sequence[tuple[int, Alarm]]) -> Markup:
    if not alarms:
        return paragraph("Nothing.")
    rows = [[alarm.text, alarm.signal, "stopped" if alarm.stops else "warned", str(step)] for step, alarm in alarms]
    return table(Table(["what is wrong", "signal", "action", "step"], rows))


def _samples(run: Run) -> Iterator[Markup]:
    """What the policy wrote to a few queries, one table each."""
    for number, steps in enumerate(read_samples(run).values(), start=1):
        if number == 1:
            yield heading("What the policy writes, greedily")
        yield table(Table([f"query {number}", "step"], [[text, str(step)] for step, text in steps.items()]))


def _reward_charts(log: Mapping[int, Mapping[str, float]]) -> Iterator[Markup]:
    """Reward, its parts, and the held-out score on the same steps: where the two part, the reward is being hacked."""
    parts = {
        key: key.removeprefix("rewards/").removesuffix("/mean")
        for figures_at in log.values()
        for key in figures_at
        if key.startswith("rewards/") and key.endswith("/mean")
    }
    held_out = {HELD_OUT: "held out", SWAPPED: "with another user's records"}
    for curve in (
        _Curve("Reward", "reward", {_REWARD: "reward"}),
        _Curve("Held-out score, greedy, on dev queries", "mean ROUGE-1 and ROUGE-L", held_out),
        _Curve("Reward by part, before weights", "reward", parts),
    ):
        if (chart := _chart(curve, log)) is not None:
            yield chart


def _chart(curve: _Curve, log: Mapping[int, Mapping[str, float]]) -> Markup | None:
    """A chart over all steps of the run; None where the log has none of its keys."""
    lines: list[Line] = []
    for key, label in curve.keys.items():
        points = [(float(step), at[key]) for step, at in log.items() if key in at and math.isfinite(at[key])]
        if points:
            lines += _smoothed(label, points)
    if not lines:
        return None
    heights = [height for line in lines for _, height in line.points]
    x = Axis("step", ticks(min(log), max(log)))
    return line_chart(curve.title, lines, x, Axis(curve.unit, ticks(min(heights), max(heights))))


def _smoothed(label: str, points: Sequence[tuple[float, float]]) -> list[Line]:
    """The points, and over a longer run the median of the last steps in bold."""
    if len(points) <= _WINDOW:
        return [Line(label, points)]
    bold = [
        (step, median(height for _, height in points[max(0, n + 1 - _WINDOW) : n + 1]))
        for n, (step, _) in enumerate(points)
    ]
    return [Line(label, _thinned(points), "thin"), Line(label, _thinned(bold))]


def _thinned(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    every = math.ceil(len(points) / _MOST_POINTS)
    return [*points[:-1:every], points[-1]]
