"""What is left where a process is killed between two steps on the disk."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import Any

import pytest

_OPERATIONS = [(io, "open"), *((os, name) for name in ("open", "fsync", "mkdir", "replace", "rmdir", "unlink"))]


class Killed(BaseException):
    """The process went away."""


def killed_at_operation(number: int, monkeypatch: pytest.MonkeyPatch, action: Callable[[], object]) -> bool:
    """Does something until so many operations on the disk were done; whether it needed more."""
    left = number

    def counted(operation: Callable[..., Any]) -> Callable[..., Any]:
        def run(*given: Any, **options: Any) -> Any:
            nonlocal left
            if left == 0:
                raise Killed
            left -= 1
            return operation(*given, **options)

        return run

    with monkeypatch.context() as patch:
        for module, name in _OPERATIONS:
            patch.setattr(module, name, counted(getattr(module, name)))
        try:
            action()
        except Killed:
            return True
    return False
