import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from prlm_cli.core.errors import DataError
from prlm_cli.pipeline.processes import chunks, in_order


def process_of(number):
    time.sleep(0.05 if number == 0 else 0)  # the first is done last
    return number, os.getpid()


def refuse(number):
    raise DataError(f"piece {number}", hint="leave it out")


def test_chunks_hold_everything_in_order():
    assert list(chunks(range(5), 2)) == [[0, 1], [2, 3], [4]]
    assert list(chunks([], 2)) == []


def test_results_come_in_the_order_of_the_work_from_other_processes():
    numbers, processes = zip(*in_order(process_of, range(8), 2), strict=True)

    assert numbers == tuple(range(8))
    assert os.getpid() not in processes and len(set(processes)) <= 2


@pytest.mark.parametrize(("work", "processes"), [(range(1), 4), (range(3), 1)], ids=["one piece", "one process"])
def test_little_work_stays_in_this_process(work, processes):
    assert {process for _, process in in_order(process_of, work, processes)} == {os.getpid()}


def test_work_is_taken_only_as_processes_come_free():
    taken = []
    results = in_order(process_of, (taken.append(n) or n for n in range(100)), 2)
    next(results)

    assert len(taken) < 10
    results.close()


def test_an_error_keeps_its_words_on_its_way_here():
    with pytest.raises(DataError, match="piece 0; leave it out"):
        list(in_order(refuse, range(3), 2))


def test_stopping_leaves_no_process_behind():
    code = "import os\nfrom tests.pipeline.test_processes import *\nif __name__ == '__main__':\n"
    # What was started in the background of a shell ignores it.
    code += "    signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += "    for n, _ in in_order(process_of, iter(int, 1), 2): print(n, flush=True)\n"
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as run:
        assert run.stdout and run.stdout.readline()
        children = psutil.Process(run.pid).children(recursive=True)
        run.send_signal(signal.SIGINT)
        run.stdout.read()

    assert children and psutil.wait_procs(children, timeout=20)[1] == []
