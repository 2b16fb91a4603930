"""Signs of a training that goes wrong, each read off the figures that were logged.

A signal is a function of the run's history that says what is wrong, or None. What it holds the figures against, its
threshold, is the setting of its name in `watchdog`. The start is the mean of the first `watchdog.window` steps, and now
is that of the last ones. A history shorter than that tells nothing yet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean, median
from typing import NamedTuple

from prlm_cli.core.settings import WatchdogSettings
from prlm_cli.metrics.correlation import spearman

Figures = Mapping[str, float]
History = Sequence[Figures]
"""The figures of each step by TRL's names, in the order of the steps; a step need not have all."""

REWARD_MODEL, OVERLAP = "rewards/personalization/mean", "rewards/overlap/mean"
FORMAT, COPY_RATE = "completions/format", "completions/copy_rate"
SHARED_THOUGHTS = "completions/shared_thoughts"
UNSCORED, CLIP_RATIO = "completions/unscored", "clip_ratio/region_mean"
PROFILE_GAIN = "heldout_gain_low"
# Of 60 runs of 300 steps in which nothing was wrong (white noise), 37 % had 20 steps with a correlation below -.5 and
# with both gains, none had below -.7.
_HACKING_STEPS = 20
_ZERO_GRADIENTS = 3


class Signal(NamedTuple):
    """A sign: what is wrong, if it is; and what to do then."""

    problem: Callable[[History, WatchdogSettings], str | None]
    advice: str


class Alarm(NamedTuple):
    """A signal that has fired: its name, what is wrong and what to do, and whether the run is to stop."""

    signal: str
    text: str
    stops: bool


class Watchdog:
    """Holds the figures of a run against all signals, step by step.

    Args:
        settings: Thresholds and actions.
        history: The steps before, of a run that goes on.
    """

    def __init__(self, settings: WatchdogSettings, history: Iterable[Figures] = ()) -> None:
        self._settings = settings
        self._history = list(history)
        self._barking = set(self._problems())

    def __call__(self, figures: Figures) -> list[Alarm]:
        """The signals that a step sets off; one that has told its problem is silent until that has passed."""
        self._history.append(figures)
        problems = self._problems()
        new = [name for name in problems if name not in self._barking]
        self._barking = set(problems)
        return [
            Alarm(name, f"{problems[name]}; {SIGNALS[name].advice}", self._settings.actions.get(name) == "stop")
            for name in new
        ]

    def _problems(self) -> dict[str, str]:
        return {
            name: problem
            for name, signal in SIGNALS.items()
            if self._settings.actions.get(name) != "off"
            and (problem := signal.problem(self._history, self._settings)) is not None
        }


def reward(history: History, settings: WatchdogSettings) -> str | None:
    """The mean reward lies far below the best that it was, against the largest spread that completions had."""
    means, spreads = _means(history, "reward", settings), _means(history, "reward_std", settings)
    if not means or not any(spreads):
        return None
    fall = max(means) - means[-1]
    return (
        f"the reward fell from {max(means):.3g} to {means[-1]:.3g}" if fall > settings.reward * max(spreads) else None
    )


def zero_variance(history: History, settings: WatchdogSettings) -> str | None:
    """In many groups no completion is better than another: they train nothing."""
    share = _now(history, "frac_reward_zero_std", settings)
    are_same = _above(share, settings.zero_variance)
    return f"{share:.0%} of the groups have rewards that are all the same" if are_same else None


def unscored(history: History, settings: WatchdogSettings) -> str | None:
    """Completions that no reward applies to, or that a scorer failed on: they train nothing."""
    share = _now(history, UNSCORED, settings)
    return f"no reward scored {share:.2%} of the completions" if _above(share, settings.unscored) else None


def length(history: History, settings: WatchdogSettings) -> str | None:
    """Completions have become much longer, or much shorter."""
    start, now = _start_and_now(history, "completions/mean_length", settings)
    if not start or not now or max(now / start, start / now) <= settings.length:
        return None
    return f"completions went from {start:.1f} to {now:.1f} tokens"


def clipped(history: History, settings: WatchdogSettings) -> str | None:
    """Many completions end at the token limit; they are masked, and train nothing."""
    share = _now(history, "completions/clipped_ratio", settings)
    return f"{share:.0%} of the completions are cut at the token limit" if _above(share, settings.clipped) else None


def format(history: History, settings: WatchdogSettings) -> str | None:  # the name of its setting
    """Completions lose the form that the prompt asks for, or never had it."""
    start, now = _start_and_now(history, FORMAT, settings)
    if start is None or now is None:
        return None
    if now == 0:
        return "no completion is well-formed"
    return f"well-formed completions fell from {start:.0%} to {now:.0%}" if start - now > settings.format else None


def entropy(history: History, settings: WatchdogSettings) -> str | None:
    """The policy hardly varies any more what it writes."""
    start, now = _start_and_now(history, "entropy", settings)
    if not start or now is None or now >= settings.entropy * start:
        return None
    return f"the entropy fell from {start:.3g} to {now:.3g} nats a token"


def copying(history: History, settings: WatchdogSettings) -> str | None:
    """The policy has learned to copy titles of records instead of writing one."""
    start, now = _start_and_now(history, COPY_RATE, settings)
    if start is None or now is None or now - start <= settings.copying:
        return None
    return f"answers copied from the records rose from {start:.0%} to {now:.0%}"


def thoughts(history: History, settings: WatchdogSettings) -> str | None:
    """The policy has learned to answer without its thoughts: they say the same to every query."""
    share = _now(history, SHARED_THOUGHTS, settings)
    are_same = _above(share, settings.thoughts)
    return f"{share:.0%} of the thoughts are, word for word, those to other queries as well" if are_same else None


def clip_ratio(history: History, settings: WatchdogSettings) -> str | None:
    """Many tokens have moved so far on the same rollouts that they train nothing any more."""
    share = _now(history, CLIP_RATIO, settings)
    return f"{share:.0%} of the importance ratios are clipped" if _above(share, settings.clip_ratio) else None


def reward_hacking(history: History, settings: WatchdogSettings) -> str | None:
    """The reward model likes the answers better and better while they have less and less of the user's own."""
    both = [(at[REWARD_MODEL], at[OVERLAP]) for at in history if REWARD_MODEL in at and OVERLAP in at]
    if len(both) < _HACKING_STEPS:
        return None
    opinions, overlaps = zip(*both[-_HACKING_STEPS:], strict=True)
    correlation = spearman(opinions, overlaps)
    if correlation is None or correlation > settings.reward_hacking or _gain(opinions) <= 0 or _gain(overlaps) >= 0:
        return None
    return f"the reward model's opinion rises while overlap falls (rank correlation {correlation:.2f})"


def gradient(history: History, settings: WatchdogSettings) -> str | None:
    """Nothing is learned any more, or one step far outweighs the others."""
    norms = _values(history, "grad_norm")
    if len(norms) >= _ZERO_GRADIENTS and not any(norms[-_ZERO_GRADIENTS:]):
        return f"the gradient was 0 in {_ZERO_GRADIENTS} steps"
    if len(norms) <= settings.window:
        return None
    usual = median(norms[:-1])
    if not usual or norms[-1] <= settings.gradient * usual:
        return None
    return f"the gradient norm is {norms[-1]:.3g}, where {usual:.3g} is usual"


def kl(history: History, settings: WatchdogSettings) -> str | None:
    """The policy is far from where it started."""
    now = _now(history, "kl", settings)
    return f"the policy is {now:.3g} nats a token from its start" if _above(now, settings.kl) else None


def profile_ignored(history: History, settings: WatchdogSettings) -> str | None:
    """With another user's records the policy may write as well: told by the last held-out evaluation alone."""
    known = _values(history, PROFILE_GAIN)
    if not known or known[-1] > settings.profile_ignored:
        return None
    return f"another user's records may do as well: own minus theirs is {known[-1]:.3f} at its lower end"


SIGNALS = {
    "reward": Signal(reward, "check the rewards by part, lower policy.learning_rate"),
    "zero_variance": Signal(zero_variance, "raise policy.temperature, or bring harder queries"),
    "unscored": Signal(unscored, "look for what the rewards return None for, or add one that applies to all queries"),
    "length": Signal(length, "see whether a reward pays for length"),
    "clipped": Signal(clipped, "raise policy.max_new_tokens"),
    "format": Signal(format, "raise policy.rewards.format, or start from a warm start"),
    "entropy": Signal(entropy, "lower policy.learning_rate, raise policy.epsilon_high"),
    "copying": Signal(copying, "penalise it: policy.rewards.copy"),
    "thoughts": Signal(thoughts, "what it gains is not by reasoning: compare it with --reasoning off"),
    "clip_ratio": Signal(clip_ratio, "lower policy.num_iterations, or policy.learning_rate"),
    "reward_hacking": Signal(reward_hacking, "lower policy.rewards.personalization, train the reward model anew"),
    "gradient": Signal(gradient, "0: no group has spread; large: lower policy.learning_rate"),
    "kl": Signal(kl, "lower policy.learning_rate, raise policy.beta"),
    "profile_ignored": Signal(profile_ignored, "raise warm_start.steps, see prlm eval --retrieval"),
}
"""Name of the threshold -> the signal."""


def _values(history: History, key: str) -> list[float]:
    return [figures[key] for figures in history if key in figures]


def _start(history: History, key: str, settings: WatchdogSettings) -> float | None:
    values = _values(history, key)[: settings.window]
    return fmean(values) if len(values) == settings.window else None


def _now(history: History, key: str, settings: WatchdogSettings) -> float | None:
    values = _values(history, key)[-settings.window :]
    return fmean(values) if len(values) == settings.window else None


def _start_and_now(history: History, key: str, settings: WatchdogSettings) -> tuple[float | None, float | None]:
    return _start(history, key, settings), _now(history, key, settings)


def _means(history: History, key: str, settings: WatchdogSettings) -> list[float]:
    """Of each window, in order."""
    values = _values(history, key)
    return [fmean(values[n : n + settings.window]) for n in range(len(values) - settings.window + 1)]


def _above(value: float | None, threshold: float) -> bool:
    return value is not None and value > threshold


def _gain(values: Sequence[float]) -> float:
    """The mean of the later half minus that of the earlier."""
    half = len(values) // 2
    return fmean(values[half:]) - fmean(values[:half])
