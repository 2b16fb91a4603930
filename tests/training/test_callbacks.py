from __future__ import annotations

import math
import os
import signal
import threading

import pytest
from transformers import TrainerControl, TrainerState

from prlm_cli.core.reporting import Silent
from prlm_cli.core.settings import WarmStartSettings, WatchdogSettings
from prlm_cli.training.callbacks import (
    AtIntervals,
    Diverged,
    EarlyStop,
    ReportProgress,
    StopOnSignal,
    StopTogether,
    Watch,
)
from prlm_cli.training.checkpoints import newest_complete, step_of
from prlm_cli.training.completion_trainer import Example
from prlm_cli.training.supervised import train_supervised
from tests.training.tiny import trainable


def train_and_get(number, model, tokenizer, folder, *, at_step=2, steps=8):
    """Trains; the process gets a signal while a step is logged."""

    def log(figures):
        if figures["step"] == at_step:
            os.kill(os.getpid(), number)

    train_supervised(
        model,
        tokenizer,
        [Example([65], [97, 256])] * 8,
        WarmStartSettings(steps=steps, batch_size=1),
        seed=0,
        checkpoints=folder,
        stage=Silent().stage("test"),
        log=log,
    )


@pytest.mark.parametrize(("number", "raised"), [(signal.SIGTERM, SystemExit), (signal.SIGINT, KeyboardInterrupt)])
def test_a_signal_saves_a_checkpoint_and_stops(tiny_model, tmp_path, number, raised):
    handlers = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]

    with pytest.raises(raised) as caught:
        train_and_get(number, *trainable(tiny_model), tmp_path)

    assert raised is KeyboardInterrupt or caught.value.code == 143
    assert step_of(newest_complete(tmp_path)) == 3  # the step that was under way is finished
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)] == handlers


def test_a_second_signal_stops_at_once():
    with pytest.raises(KeyboardInterrupt), StopOnSignal():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("went on after the second signal")


def test_without_a_signal_nothing_is_stopped():
    with StopOnSignal() as stop:
        control = stop.on_step_end(None, TrainerState(), TrainerControl())

    assert (control.should_save, control.should_training_stop) == (False, False)


def test_a_signal_waits_for_a_step_that_can_be_gone_on_from():
    asked = []

    with pytest.raises(SystemExit), StopOnSignal(every=3) as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        for step in (4, 5, 6):
            control = stop.on_step_end(None, TrainerState(global_step=step), TrainerControl())
            asked.append((control.should_save, control.should_training_stop))

    assert asked == [(False, False), (False, False), (True, True)]


def test_an_error_of_the_training_is_passed_on():
    with pytest.raises(ZeroDivisionError), StopOnSignal():
        _ = 1 / 0


def test_outside_the_main_thread_signals_are_left_alone():
    outcome = []

    def work():
        with StopOnSignal():
            outcome.append("done")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()

    assert outcome == ["done"]


@pytest.mark.parametrize("name", ["loss", "grad_norm"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_figure_that_is_not_finite_stops_the_run(name, value):
    lines = []
    report = ReportProgress(Silent().stage("test"), lines.append, {})

    with pytest.raises(Diverged, match=rf"{name} is not finite at step 7; lower the learning rate") as caught:
        report.on_log(None, TrainerState(global_step=7), None, {"loss": 1.0, "grad_norm": 1.0} | {name: value})

    assert (caught.value.exit_code, lines) == (70, [])


def test_the_log_holds_numbers_only_and_the_progress_line_the_chosen_ones():
    lines, shown = [], []
    report = ReportProgress(lambda *a, **f: shown.append((a, f)), lines.append, {"loss": "loss", "reward": "reward"})
    state = TrainerState(global_step=3, max_steps=9)

    report.on_log(None, state, None, {"loss": 0.5, "text": "private", "lr": 1})
    report.on_log(None, state, None, {"train_runtime": 3.0})

    assert [set(line) for line in lines] == [{"step", "seconds", "loss", "lr", "peak_memory_gb"}]
    assert 0.05 < lines[0]["peak_memory_gb"] < 64
    assert shown == [((3, 9), {"loss": 0.5})]


def test_the_pace_is_that_of_the_steps_without_what_was_seen_before():
    lines = []
    report = ReportProgress(Silent().stage("test"), lines.append, {})
    report.on_train_begin(None, TrainerState(num_input_tokens_seen=1000), None)
    for tokens in (1300, 1400):
        report.on_log(None, TrainerState(), None, {"loss": 0.5, "num_tokens": tokens, "step_time": 2.0})

    assert [line["tokens_per_second"] for line in lines] == [150, 50]


def test_a_figure_from_elsewhere_is_shown_from_the_next_step_on():
    shown = []
    report = ReportProgress(lambda *a, **figures: shown.append(figures), lambda _: None, {})
    for _ in range(2):
        report.on_log(None, TrainerState(), None, {"loss": 0.5})
        report.show(**{"held-out": 0.25})

    assert shown == [{}, {"held-out": 0.25}]


def test_held_out_queries_are_judged_at_the_start_on_the_way_and_at_the_end():
    judged = []
    evaluate = AtIntervals(lambda step: judged.append(step) or 0.0, every=3)
    evaluate.on_train_begin(None, TrainerState(global_step=0), None)
    for step in range(1, 8):
        evaluate.on_step_end(None, TrainerState(global_step=step, max_steps=7), None)

    assert judged == [0, 3, 6, 7]


def test_a_run_that_goes_on_does_not_judge_its_start_again():
    judged = []

    AtIntervals(judged.append, every=3).on_train_begin(None, TrainerState(global_step=4), None)

    assert judged == []


def _steps_until_early_stop(by_step, patience, *, earlier=None, first=1, last=9):
    """The step that ended the training; None where it came to its end."""
    scores = dict(earlier or {})
    stop, control = EarlyStop(scores, patience), TrainerControl()
    for step in range(first, last + 1):
        if step in by_step:
            scores[step] = by_step[step]
        stop.on_step_end(None, TrainerState(global_step=step, max_steps=last), control)
        assert stop.has_stopped == control.should_training_stop
        if control.should_training_stop:
            return step
    return None


@pytest.mark.parametrize(
    ("by_step", "patience", "expected"),
    [
        ({2: 0.2, 4: 0.1, 6: 0.1}, 2, 6),
        ({2: 0.2, 4: 0.1, 6: 0.3, 8: 0.2}, 2, None),
        ({2: 0.2, 4: 0.2}, 1, 4),  # as good is no gain
        ({2: 0.2, 9: 0.1}, 1, None),  # the last step ends it anyway
        ({}, 1, None),
    ],
    ids=["no gain", "a gain", "as good", "at the end", "nothing judged"],
)
def test_evaluations_without_a_gain_end_the_training(by_step, patience, expected):
    assert _steps_until_early_stop(by_step, patience) == expected


def test_a_run_that_goes_on_counts_the_evaluations_before_it_and_none_that_are_to_come():
    earlier = {0: 0.3, 2: 0.2, 4: 0.1, 6: 0.1}  # it was broken off after step 6, and goes on after step 3

    assert _steps_until_early_stop({4: 0.4}, 2, earlier=earlier, first=4, last=5) is None
    assert _steps_until_early_stop({4: 0.1}, 2, earlier=earlier, first=4) == 4


_QUIET = {"loss": 0.0, "frac_reward_zero_std": 0.0}
_CONSTANT = {"loss": 0.0, "frac_reward_zero_std": 1.0}


def _watched(settings, logs, *, earlier=None, start=0, added=None):
    """What is told of the steps after `start`, and whether the training is to stop; `added` comes before a step."""
    told, control = [], TrainerControl()
    watch = Watch(settings, earlier or {}, lambda step, alarm: told.append((step, alarm.signal)))
    watch.on_train_begin(None, TrainerState(global_step=start), control)
    for step, figures in enumerate(logs, start=start + 1):
        if step in (added or {}):
            watch.add(added[step])
        watch.on_log(None, TrainerState(global_step=step), control, {"epoch": 1.0})
        watch.on_log(None, TrainerState(global_step=step), control, figures)
    assert control.should_training_stop == (watch.stopped_by is not None)
    return told, watch.stopped_by


@pytest.mark.parametrize(("action", "stopped_by"), [("warn", None), ("stop", "zero_variance")])
def test_an_alarm_is_told_once_and_stops_the_training_if_it_is_to(action, stopped_by):
    settings = WatchdogSettings(window=2, actions={"zero_variance": action})

    assert _watched(settings, [_QUIET, *[_CONSTANT] * 3]) == ([(3, "zero_variance")], stopped_by)


def test_the_watchdog_of_a_run_that_goes_on_knows_the_steps_before_and_none_after():
    settings = WatchdogSettings(window=3)
    earlier = {1: _QUIET, 2: _CONSTANT, 3: _CONSTANT, 4: _CONSTANT, 5: _CONSTANT}

    assert _watched(settings, [_QUIET], earlier={1: _CONSTANT, 2: _CONSTANT}, start=2) == ([(3, "zero_variance")], None)
    assert _watched(settings, [_CONSTANT], earlier=earlier, start=3) == ([], None)  # it was told of before
    assert _watched(settings, [_QUIET], earlier=earlier, start=1) == ([], None)


def test_a_figure_from_elsewhere_counts_once_with_the_step_that_is_logged_next():
    settings, low, high = WatchdogSettings(window=2), {"heldout_gain_low": -1.0}, {"heldout_gain_low": 1.0}
    ignored = "profile_ignored"

    assert _watched(settings, [_QUIET] * 4, added={2: low}) == ([(2, ignored)], None)
    assert _watched(settings, [_QUIET] * 4, added={1: low, 2: high, 4: low}) == ([(1, ignored), (4, ignored)], None)


def test_what_is_no_step_of_the_training_is_not_watched():
    assert _watched(WatchdogSettings(window=1), [{"train_runtime": 3.0, "frac_reward_zero_std": 1.0}]) == ([], None)


@pytest.mark.parametrize("moment", ["on_log", "on_step_end"])
@pytest.mark.parametrize("others", [0, 1])
def test_what_another_process_stops_stops_here(monkeypatch, moment, others):
    monkeypatch.setattr("prlm_cli.training.callbacks.highest", lambda number: max(number, others))

    control = getattr(StopTogether(), moment)(None, TrainerState(), TrainerControl())

    assert control.should_training_stop == bool(others)
