"""The signals over histories made up; `tests/pipeline/test_watching.py` provokes each of them by a training."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prlm_cli.core.configuration import resolve
from prlm_cli.core.errors import SettingsError
from prlm_cli.core.settings import WatchdogSettings
from prlm_cli.training.watchdog import (
    CLIP_RATIO,
    COPY_RATE,
    FORMAT,
    OVERLAP,
    PROFILE_GAIN,
    REWARD_MODEL,
    SHARED_THOUGHTS,
    SIGNALS,
    UNSCORED,
    Watchdog,
)

LENGTH, CLIPPED, CONSTANT = "completions/mean_length", "completions/clipped_ratio", "frac_reward_zero_std"
# Figures of a training in which nothing is wrong: what each may be.
_QUIET = {
    "loss": (-0.1, 0.1),
    "reward": (0.4, 0.6),
    "reward_std": (0.3, 0.4),
    CONSTANT: (0.0, 0.5),
    UNSCORED: (0.0, 0.0),
    LENGTH: (5.0, 9.0),
    CLIPPED: (0.0, 0.3),
    FORMAT: (0.8, 1.0),
    "entropy": (0.5, 1.0),
    COPY_RATE: (0.1, 0.3),
    SHARED_THOUGHTS: (0.0, 0.5),
    CLIP_RATIO: (0.0, 0.2),
    "grad_norm": (0.5, 4.0),
    "kl": (0.0, 0.2),
    PROFILE_GAIN: (0.001, 0.5),
}


def history(**figures):
    """Steps from the values of each figure."""
    return [dict(zip(figures, values, strict=True)) for values in zip(*figures.values(), strict=True)]


def steps(key, *values):
    """Steps that have one figure."""
    return [{key: value} for value in values]


def fired(lines, **settings):
    """The signals that a history sets off, in order, with the number of the step."""
    watchdog = Watchdog(WatchdogSettings(**{"window": 2} | settings))
    return [(n, alarm.signal) for n, figures in enumerate(lines, start=1) for alarm in watchdog(figures)]


def test_each_signal_has_a_threshold_of_its_name_and_no_threshold_is_without():
    assert set(SIGNALS) == set(WatchdogSettings.__struct_fields__) - {"window", "actions"}
    assert all(signal.advice for signal in SIGNALS.values())


@given(st.data(), st.integers(1, 10))
def test_a_quiet_history_sets_nothing_off(data, window):
    lines = data.draw(
        st.lists(st.fixed_dictionaries({key: st.floats(*limits) for key, limits in _QUIET.items()}), max_size=30)
    )

    assert fired(lines, window=window) == []


@given(st.lists(st.dictionaries(st.sampled_from([*_QUIET, OVERLAP, REWARD_MODEL]), st.floats(0, 100)), max_size=30))
def test_whatever_the_figures_an_alarm_is_told_once_until_it_has_passed(lines):
    settings = WatchdogSettings(window=2)
    watchdog, before = Watchdog(settings), set()
    for n, figures in enumerate(lines, start=1):
        told = {alarm.signal for alarm in watchdog(figures)}
        now = {name for name, signal in SIGNALS.items() if signal.problem(lines[:n], settings) is not None}
        assert told == now - before
        before = now


# Signal -> what sets it off, and the smallest change of a threshold that keeps it silent.
_CASES = {
    "reward": (
        history(reward=[0.5, 0.5, 0.9, 0.9, 0.5, 0.5], reward_std=[0.3] * 6),
        {"reward": 4 / 3 + 1e-6},
        6,
    ),
    "zero_variance": (steps(CONSTANT, 0, 1, 1), {"zero_variance": 1.0}, 3),
    "unscored": (steps(UNSCORED, 0, 0, 0.5), {"unscored": 0.25}, 3),
    "length": (steps(LENGTH, 4, 4, 4, 14), {"length": 2.25}, 4),
    "clipped": (steps(CLIPPED, 0.1, 0.4, 0.4), {"clipped": 0.4}, 3),
    "format": (steps(FORMAT, 1, 1, 0.5), {"format": 0.25}, 3),
    "entropy": (steps("entropy", 1, 1, 0.3, 0.3), {"entropy": 0.3}, 4),
    "copying": (steps(COPY_RATE, 0.1, 0.1, 0.9, 0.1), {"copying": 0.4}, 3),
    "thoughts": (steps(SHARED_THOUGHTS, 0, 0.5, 1), {"thoughts": 0.75}, 3),
    "clip_ratio": (steps(CLIP_RATIO, 0, 0.25, 0.25), {"clip_ratio": 0.25}, 3),
    "reward_hacking": (
        [{REWARD_MODEL: n / 20, OVERLAP: -n + (n % 3)} for n in range(20)],
        {"reward_hacking": -1.0},
        20,
    ),
    "gradient": (steps("grad_norm", 1, 1, 1, 11), {"gradient": 11.0}, 4),
    "kl": (steps("kl", 0.1, 0.1, 0.4), {"kl": 0.25}, 3),
    "profile_ignored": (steps(PROFILE_GAIN, 0.1, 0), {"profile_ignored": -1e-6}, 2),
}


@pytest.mark.parametrize("signal", _CASES)
def test_a_signal_fires_by_its_threshold_and_no_sooner(signal):
    lines, silent, step = _CASES[signal]

    assert fired(lines) == [(step, signal)]
    assert fired(lines, **silent) == []
    assert fired(lines, actions={signal: "off"}) == []


def test_every_signal_is_tried():
    assert set(_CASES) == set(SIGNALS)


def test_completions_may_not_become_much_shorter_either():
    assert fired(steps(LENGTH, 10, 10, 4, 4)) == [(4, "length")]


def test_no_well_formed_completion_is_a_problem_from_the_start():
    assert fired(steps(FORMAT, 0, 0, 0)) == [(2, "format")]


def test_a_gradient_of_zero_counts_when_it_comes_thrice():
    assert fired(steps("grad_norm", 1, 0, 0, 1, 0, 0, 0)) == [(7, "gradient")]


@pytest.mark.parametrize(
    ("opinions", "overlaps"),
    [
        (range(20), range(20)),
        (range(20, 0, -1), range(20, 0, -1)),
        (range(20, 0, -1), range(20)),
        ([1] * 20, range(20)),
    ],
    ids=["both rise", "both fall", "overlap rises", "the opinion is constant"],
)
def test_a_reward_model_is_gamed_only_where_its_opinion_rises_and_overlap_falls(opinions, overlaps):
    assert fired(history(**{REWARD_MODEL: opinions, OVERLAP: overlaps})) == []


def test_a_history_shorter_than_the_window_tells_nothing():
    lines = [{CONSTANT: 1.0, CLIPPED: 1.0, FORMAT: 0.0, "kl": 9.0}] * 9

    assert fired(lines, window=10) == []
    assert {name for _, name in fired([*lines, lines[0]], window=10)} == {"zero_variance", "clipped", "format", "kl"}


def test_whether_the_profile_is_used_is_told_by_the_last_evaluation_whatever_the_window():
    assert fired(steps(PROFILE_GAIN, -0.1), window=10) == [(1, "profile_ignored")]
    assert fired(steps(PROFILE_GAIN, 0.1, -0.1, 0.1, 0.1, -0.1), window=10) == [
        (2, "profile_ignored"),
        (5, "profile_ignored"),
    ]


def test_an_alarm_comes_again_once_it_has_passed():
    assert fired(steps("kl", 1, 0, 0, 1), window=1) == [(1, "kl"), (4, "kl")]


def test_an_alarm_says_what_is_wrong_in_one_line_and_what_to_do():
    watchdog = Watchdog(WatchdogSettings(window=1, actions={"entropy": "stop"}), [{"entropy": 1.0}])

    (alarm,) = watchdog({"entropy": 0.125})

    assert alarm.text == (
        "the entropy fell from 1 to 0.125 nats a token; lower policy.learning_rate, raise policy.epsilon_high"
    )
    assert (alarm.signal, alarm.stops) == ("entropy", True)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("watchdog.actions.entropi=stop", r"signals, and 'entropi' is none; did you mean entropy\?"),
        ("watchdog.actions.window=stop", r"signals, and 'window' is none"),
        ("watchdog.actions.entropy=halt", r"watchdog.actions.entropy: expected 'warn', 'stop' or 'off'"),
        ("watchdog.length=1", r"watchdog.length: expected a number above 1"),
        ("watchdog.reward_hacking=0.5", r"watchdog.reward_hacking: expected a number of at least -1 and at most 0"),
    ],
)
def test_a_setting_of_the_watchdog_that_cannot_be_is_an_error(assignment, message):
    with pytest.raises(SettingsError, match=message):
        resolve(assignments=[assignment])
