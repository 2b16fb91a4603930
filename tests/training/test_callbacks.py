from __future__ import annotations

import math
import os
import signal
import threading

import pytest
from transformers import TrainerControl, TrainerState

from prlm_cli.core.reporting import Silent
from prlm_cli.core.settings import WarmStartSettings
from prlm_cli.training.callbacks import Diverged, EvaluateHeldOut, ReportProgress, StopOnSignal
from prlm_cli.training.checkpoints import newest_complete, step_of
from prlm_cli.training.supervised import Example, train_supervised
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

    assert [set(line) for line in lines] == [{"step", "seconds", "loss", "lr"}]
    assert shown == [((3, 9), {"loss": 0.5})]


def test_held_out_queries_are_judged_at_the_start_on_the_way_and_at_the_end():
    judged = []
    evaluate = EvaluateHeldOut(lambda step: judged.append(step) or 0.0, every=3)
    evaluate.on_train_begin(None, TrainerState(global_step=0), None)
    for step in range(1, 8):
        evaluate.on_step_end(None, TrainerState(global_step=step, max_steps=7), None)

    assert judged == [0, 3, 6, 7]


def test_a_run_that_goes_on_does_not_judge_its_start_again():
    judged = []

    EvaluateHeldOut(judged.append, every=3).on_train_begin(None, TrainerState(global_step=4), None)

    assert judged == []
