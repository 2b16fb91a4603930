from __future__ import annotations

from prlm_cli.core.workspace import Run
from prlm_cli.pipeline.run_log import log_alarm, read_log
from prlm_cli.training.watchdog import Alarm


def test_the_log_of_a_run_that_has_not_begun_is_empty(tmp_path):
    assert read_log(Run(tmp_path)) == ({}, [])


def test_figures_are_read_by_step_and_what_was_written_later_counts(tmp_path):
    run = Run(tmp_path)
    for line in (
        {"step": 0, "heldout": 0.1},
        {"step": 2, "loss": 1.0},
        {"step": 1, "loss": 2.0},
        {"step": 2, "loss": 3.0},
    ):
        run.append_log(line)
    run.append_log({"step": 2, "heldout": 0.3})

    log = read_log(run)

    assert log.steps == {
        0: {"step": 0, "heldout": 0.1},
        1: {"step": 1, "loss": 2.0},
        2: {"step": 2, "loss": 3.0, "heldout": 0.3},
    }
    assert log.held_out == {0: 0.1, 2: 0.3}


def test_alarms_are_apart_from_figures_and_each_is_there_once(tmp_path):
    run, alarm = Run(tmp_path), Alarm("kl", "far away; come back", stops=False)
    run.append_log({"step": 1, "loss": 1.0})
    for step in (3, 1, 3):  # a run that was interrupted told it twice
        log_alarm(run, step, alarm)

    log = read_log(run)

    assert log.steps == {1: {"step": 1, "loss": 1.0}}
    assert log.alarms == [(1, alarm), (3, alarm)]


def test_a_line_that_a_kill_cut_off_is_passed_over(tmp_path):
    run = Run(tmp_path)
    run.log.write_text('{"step": 1, "loss": 1.0}\n{"step": 2, "lo')

    assert list(read_log(run).steps) == [1]
