from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from prlm_cli.core.errors import PrlmError

QUERY = json.dumps({"query_id": "new", "user_id": "ada", "text": "more parsing"}) + "\n"
NO_MEMORY_ON_CPU = (
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
    "400000000000 bytes. Error code 12 (Cannot allocate memory)"
)


@pytest.fixture
def start(workspace):
    """Starts `prlm retrieve -` in a process of its own, with one query answered and its input still open."""
    started = []

    def start():
        process = subprocess.Popen(
            [sys.executable, "-m", "prlm_cli", "retrieve", "-", "-w", str(workspace)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            bufsize=1,
            # A shell's background jobs ignore Ctrl-C, and so would their children.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        started.append(process)
        process.stdin.write(QUERY)
        assert json.loads(process.stdout.readline())["query_id"] == "new"
        return process

    yield start
    for process in started:
        process.kill()
        for stream in (process.stdin, process.stdout, process.stderr):
            stream.close()
        process.wait()


def test_a_reader_that_goes_away_ends_the_command_silently(start):
    process = start()
    process.stdout.close()
    process.stdin.write(QUERY)
    process.stdin.flush()

    assert (process.wait(timeout=30), process.stderr.read()) == (141, "")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_command_silently(start, number, code):
    process = start()
    process.send_signal(number)

    assert (process.wait(timeout=30), process.stdout.read(), process.stderr.read()) == (code, "", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="NOT RUN: no /dev/full on this machine")
@pytest.mark.parametrize("args", [["retrieve"], ["eval", "--help"]], ids=["records", "help"])
def test_a_full_disk_under_stdout_is_exit_5_and_one_line(workspace, args):
    environment = {**os.environ, "PRLM_WORKSPACE": str(workspace)}
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "prlm_cli", *args], stdout=full, stderr=subprocess.PIPE, text=True, env=environment
        )

    assert (done.returncode, done.stderr) == (5, "prlm: No space left on device; free some space\n")


@pytest.fixture
def failing(prlm, workspace, monkeypatch):
    """Runs `prlm retrieve` with a pipeline that raises an error."""

    def run(error, *args):
        def fail(*_, **__):
            raise error

        monkeypatch.setattr("prlm_cli.pipeline.retrieve.retrieve", fail)
        return prlm("retrieve", "-w", workspace, *args)

    return run


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."), RuntimeError(NO_MEMORY_ON_CPU)],
    ids=["python", "gpu", "cpu"],
)
def test_out_of_memory_is_exit_4_and_one_line(failing, error):
    result = failing(error)

    assert (result.exit_code, result.stdout) == (4, "")
    assert result.stderr == "prlm: out of memory; try smaller batches, shorter prompts or --qlora\n"


def test_an_interrupt_is_exit_130_without_a_word(failing):
    assert failing(KeyboardInterrupt()) == (130, "", "")


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), OSError(errno.EIO, "private text"), KeyError("x")])
def test_any_other_error_is_a_bug_whose_message_may_hold_a_users_text_and_is_not_shown(failing, error):
    result = failing(error)

    assert (result.exit_code, result.stdout) == (70, "")
    assert result.stderr.startswith(f"prlm: a bug ({type(error).__name__} in test_exit_codes.py:")
    assert result.stderr.count("\n") == 1 and "private" not in result.stderr


def test_verbose_adds_the_traceback(failing):
    error = RuntimeError("shapes differ")
    result = failing(error, "-v")

    assert "RuntimeError: shapes differ" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("prlm: a bug (RuntimeError in test_exit_codes.py:")


def test_an_error_of_ours_has_its_own_code_and_shows_no_control_characters(failing):
    error = PrlmError("odd\x1b[31m\nname", hint="look")
    error.exit_code = 3

    assert failing(error) == (3, "", "prlm: odd\\x1b[31m\\nname; look\n")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["retreive"], "No such command 'retreive'; did you mean retrieve? Try `prlm --help`."),
        (["runs", "shw"], "No such command 'shw'. Did you mean 'show'? Try `prlm runs --help`."),
        (["retrieve", "--retreiver", "x"], "No such option: --retreiver (Possible options: --retriever). Try `prlm"),
        (["retrieve", "-k", "many"], "Invalid value for '-k': Input should be a valid integer"),
        (["index"], "nothing to index; name some files, or - for standard input"),
        (["eval", "a.jsonl", "b.jsonl"], "Got unexpected extra argument(s) (b.jsonl). Try `prlm eval --help`."),
    ],
)
def test_a_usage_error_is_one_line_with_what_was_probably_meant(prlm, args, message):
    result = prlm(*args)

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"prlm: {message}") and result.stderr.count("\n") == 1
