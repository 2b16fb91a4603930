"""Work that is done again in smaller pieces once memory has run out."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import TypeVar

import torch

from prlm_cli.core.errors import OutOfMemoryError, is_out_of_memory

T = TypeVar("T")


class BackOff:
    """How much is done at once; half of it once memory has run out, for the rest of the run.

    Args:
        what: What is counted: "tokens of a pass".
        most: To begin with; None where nothing is set.
        note: Takes a line when it becomes less.
        hint: What to do where it cannot.
    """

    def __init__(self, what: str, most: int | None, note: Callable[[str], None], *, hint: str) -> None:
        self.most = most
        self._what, self._note, self._hint = what, note, hint
        self._at_work = 1
        self._is_smallest = True

    def works_on(self, size: int, *, is_smallest: bool) -> None:
        """Says what is done next: how much, and whether it could not be less."""
        self._at_work, self._is_smallest = size, is_smallest

    def retried(self, work: Callable[[], T]) -> T:
        """What the work returns, done again from its start as long as memory runs out.

        Raises:
            OutOfMemoryError: If the smallest piece of work does not fit.
        """
        while True:
            try:
                return work()
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self._halve(error)
            # Not above, where the error still holds the tensors of what did not fit.
            gc.collect()
            torch.cuda.empty_cache()

    def once(self, work: Callable[[], T], *, hint: str) -> T:
        """What the work returns, where it cannot be done again because other processes take part in it.

        Args:
            work: What to do.
            hint: How to have less done at once.

        Raises:
            OutOfMemoryError: If it does not fit.
        """
        try:
            return work()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if self._is_smallest:
                raise self._too_large() from error
            raise OutOfMemoryError(f"{self._at_work} {self._what} do not fit into memory", hint=hint) from error

    def _halve(self, error: Exception) -> None:
        if self._is_smallest:
            raise self._too_large() from error
        self.most = max(1, self._at_work // 2)
        self._note(f"out of memory: at most {self.most} {self._what} from now on")

    def _too_large(self) -> OutOfMemoryError:
        return OutOfMemoryError(f"not even {self._at_work} {self._what} fit into memory", hint=self._hint)
