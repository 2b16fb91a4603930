"""How the pipeline says what it is doing, without knowing about terminals."""

from __future__ import annotations

from typing import Protocol


class Stage(Protocol):
    """Progress of one stage."""

    def __call__(self, done: int, total: int = 0, **figures: float) -> None:
        """So many items are done; `figures` are those of the moment."""
        ...


class Reporter(Protocol):
    """Where notes and progress go."""

    def note(self, text: str) -> None:
        """Says one thing once; never a user's text."""
        ...

    def stage(self, name: str) -> Stage:
        """The progress of a new stage."""
        ...


class Silent:
    """Says nothing: the default for callers from Python."""

    def note(self, text: str) -> None:
        """Nothing."""

    def stage(self, name: str) -> Stage:
        """A stage that says nothing."""
        return _ignore


def _ignore(done: int, total: int = 0, **figures: float) -> None:
    return None
