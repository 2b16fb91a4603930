"""Runs one command in a fresh process and says on stdout, as JSON, what it took.

This is a program of its own because a child's peak memory begins, in Linux' accounts, at the size of the process that
started it: the benchmark holds whole corpora, this program holds nothing.
"""

from __future__ import annotations

import json
import os
import sys
import time


def main() -> None:
    """Runs `launch.py STDOUT COMMAND ARGUMENT...`; the command's stdout goes to the file STDOUT."""
    stdout, *command = sys.argv[1:]
    opened = (os.POSIX_SPAWN_OPEN, 1, stdout, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    start = time.perf_counter()
    pid = os.posix_spawn(command[0], command, os.environ, file_actions=[opened])
    _, status, used = os.wait4(pid, 0)
    taken = {
        "exit_code": os.waitstatus_to_exitcode(status),
        "wall": time.perf_counter() - start,
        "cpu": used.ru_utime + used.ru_stime,
        "peak_mb": used.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6,
    }
    json.dump(taken, sys.stdout)


if __name__ == "__main__":
    main()
