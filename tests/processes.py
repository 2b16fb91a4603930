"""`prlm` in processes that can be killed, forked from one that has imported the libraries: a start takes no 10 s."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path

_IMPORTED = ["prlm_cli.cli", "prlm_cli.pipeline.train_policy", "prlm_cli.training.grpo", "prlm_cli.models.adapters"]


def start_prlm(arguments: list[str], output: Path, before: Callable[[], None] | None = None) -> ForkServerProcess:
    """A process that runs `prlm`.

    Args:
        arguments: Of the command line.
        output: A file that stdout and stderr are appended to.
        before: A function of a module, called in the process before the command.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_IMPORTED)
    process = context.Process(target=_run, args=(arguments, output, before))
    process.start()
    return process


def _run(arguments: list[str], output: Path, before: Callable[[], None] | None) -> None:
    import torch

    from prlm_cli.cli import main

    # A shell's background jobs ignore Ctrl-C, and so would their children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with output.open("ab", buffering=0) as stream:
        for number in (1, 2):
            os.dup2(stream.fileno(), number)
    torch.set_num_threads(1)
    if before:
        before()
    sys.argv = ["prlm", *arguments]
    main()
