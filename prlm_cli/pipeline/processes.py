"""Work over all cores, its results in the order of the work, and no more of either in memory than is being done."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import TypeVar

Work = TypeVar("Work")
Result = TypeVar("Result")

_AHEAD = 2  # pieces of work that wait for each process, so that none waits for work


def chunks(items: Iterable[Work], size: int) -> Iterator[list[Work]]:
    """The items, so many at a time; the last chunk may be shorter."""
    stream = iter(items)
    while chunk := list(islice(stream, size)):
        yield chunk


def in_order(function: Callable[[Work], Result], work: Iterable[Work], processes: int) -> Iterator[Result]:
    """What a function gives for each piece of work, in order.

    One piece alone is done in this process, and so is all where there is one process. A script that asks for more needs
    the usual `if __name__ == "__main__":`, as processes are started anew rather than forked: threads do not survive a
    fork.

    Args:
        function: Of a module, so that other processes can import it.
        work: Taken as processes come free.
        processes: How many, 0 for one a core.
    """
    stream = iter(work)
    first = list(islice(stream, 2))
    count = processes or os.cpu_count() or 1
    if len(first) < 2 or count == 1:
        yield from map(function, chain(first, stream))
        return
    yield from _spread(function, chain(first, stream), count)


def _spread(function: Callable[[Work], Result], work: Iterator[Work], processes: int) -> Iterator[Result]:
    import multiprocessing
    from concurrent.futures import Future, ProcessPoolExecutor

    waiting: deque[Future[Result]] = deque()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context, initializer=_leave_signals) as pool:
        try:
            for piece in work:
                waiting.append(pool.submit(function, piece))
                if len(waiting) > _AHEAD * processes:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _leave_signals() -> None:
    """Ctrl-C reaches every process of a terminal; the one that started the others ends them."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
