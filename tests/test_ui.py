from __future__ import annotations

import contextlib
import io
import sys
import time

import pytest

from prlm_cli import cli, ui

_HIDE, _SHOW = "\x1b[?25l", "\x1b[?25h"  # the cursor


class _Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    """Makes stderr a terminal; called in the test, since pytest puts its own stream there after the fixtures."""

    def make():
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setattr(sys, "stderr", _Terminal())
        return sys.stderr

    return make


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass when the test says so."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_a_live_line_shows_figures_and_is_ended_by_the_last_item(terminal):
    stderr = terminal()
    stage = ui.Terminal().stage("GRPO")
    for done in (1, 2):
        stage(done, 2, reward=0.5 * done)

    written = stderr.getvalue()
    assert "GRPO reward=0.5" in written and "1/2" in written and "GRPO reward=1" in written and "2/2" in written
    assert written.count(_HIDE) == written.count(_SHOW) == 1 and written.endswith(_SHOW)


def test_many_figures_are_a_table_below_the_bar(terminal):
    stderr = terminal()
    figures = {"reward": 0.61, "overlap": 0.58, "held-out": 0.34125, "tokens/s": 312.0, "GB": 2.5}
    stage = ui.Terminal().stage("GRPO")
    stage(1, 3, **figures)
    stage(2, 3, **figures | {"reward": 0.75})
    ui.stop_progress()

    bar, table = stderr.getvalue().rsplit("GRPO", 1)[1].split("\n")[:2]
    assert "2/3" in bar and "reward" not in bar
    assert table.split() == ["reward", "0.75", "overlap", "0.58", "held-out", "0.341", "tokens/s", "312", "GB", "2.5"]


def test_what_is_said_meanwhile_stands_on_a_line_of_its_own(terminal):
    stderr = terminal()
    stage = ui.Terminal().stage("GRPO")
    stage(1, 3)
    ui.note("something")
    stage(2, 3)
    ui.stop_progress()

    written = stderr.getvalue()
    assert f"\n{_SHOW}prlm: something\n{_HIDE}" in written
    assert written.endswith(_SHOW)


def test_the_next_stage_takes_the_place_of_one_that_never_ended(terminal):
    stderr = terminal()
    reporter = ui.Terminal()
    reporter.stage("first")(1)
    reporter.stage("second")(1, 1)

    assert stderr.getvalue().count(_HIDE) == stderr.getvalue().count(_SHOW) == 2


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit(143), ZeroDivisionError], ids=repr)
def test_the_cursor_comes_back_however_a_command_ends(terminal, monkeypatch, error):
    def fail(*_):
        ui.Terminal().stage("GRPO")(1, 2)
        raise error

    monkeypatch.setattr(cli.typer.main, "get_command", lambda app: type("Command", (), {"make_context": fail}))
    stderr = terminal()
    with contextlib.suppress(SystemExit):
        cli._run([])

    assert stderr.getvalue().count(_HIDE) == stderr.getvalue().count(_SHOW) == 1


def test_off_a_terminal_there_is_a_plain_line_every_half_minute(capsys, clock):
    stage = ui.Terminal().stage("GRPO")
    for step in range(1, 11):
        clock[0] += 10
        stage(step, 10, reward=1 / 3)

    assert capsys.readouterr().err.splitlines() == [
        "GRPO 3/10 reward=0.333 eta=1m10s",
        "GRPO 6/10 reward=0.333 eta=40s",
        "GRPO 9/10 reward=0.333 eta=10s",
    ]


def test_quiet_shows_no_progress(terminal, capsys, clock, monkeypatch):
    monkeypatch.setattr(ui.Output, "quiet", True)
    plain = ui.Terminal().stage("GRPO")
    clock[0] += 60
    plain(1, 2)
    assert capsys.readouterr().err == ""

    stderr = terminal()
    ui.Terminal().stage("GRPO")(1, 2)
    assert stderr.getvalue() == ""


def test_a_table_off_a_terminal_is_never_narrowed_and_its_cells_are_no_markup(capsys):
    long, hostile = "[bold]x[/bold] " + "y" * 300, "\x1b[31mz\u202e :smile:"
    ui.print_table(["name", "n"], [[long, 1], [hostile, 22]])

    assert capsys.readouterr().out.splitlines() == [
        "name".ljust(len(long)) + "   n",
        long + "   1",
        r"\x1b[31mz\u202e :smile:".ljust(len(long)) + "  22",
    ]
