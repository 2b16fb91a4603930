"""What LaMP's leaderboard reports of generations, and the files that it takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import msgspec

from prlm_cli.core.errors import DataError
from prlm_cli.core.records import Generation
from prlm_cli.core.workspace import write_text
from prlm_cli.metrics.lamp_tasks import LEADERBOARD, task_number


def leaderboard_metrics(generations: Iterable[Generation]) -> tuple[list[str], Iterator[Generation]]:
    """The metrics that the leaderboard has for the task of the generations, and these, still to be read.

    Raises:
        DataError: If there are none, or one is of no task of LaMP, or of another than the first: of the first now, of
            the others as they are read.
    """
    task, stream = _of_one_task(generations)
    return list(LEADERBOARD[task]), stream


class Submission:
    """The answers to the questions of one task, as LaMP's scorer reads them.

    That is `{"task": "LaMP_5", "golds": [{"id": ..., "output": ...}]}`; an answer that could not be read is empty. The
    scorer wants every question of a split, each once.

    Args:
        folder: Where `LaMP_N.json` goes.
        force: Replaces what is there.
    """

    def __init__(self, folder: Path, *, force: bool = False) -> None:
        self._folder = folder
        self._force = force
        self._name = ""
        self._outputs: dict[str, str] = {}

    def recorded(self, generations: Iterable[Generation]) -> Iterator[Generation]:
        """The generations, whose answers are taken down as they are read.

        Raises:
            DataError: As `leaderboard_metrics`; or if a question comes twice, or the file exists, without `force`.
        """
        task, stream = _of_one_task(generations)
        self._name = f"LaMP_{task}"
        if self.path.exists() and not self._force:
            raise DataError(f"{self.path} exists", hint="use --force to replace it")
        for generation in stream:
            if generation.query_id in self._outputs:
                raise DataError(
                    f"query '{generation.query_id}' is answered twice", hint="a submission has one answer a question"
                )
            self._outputs[generation.query_id] = generation.answer or ""
            yield generation

    @property
    def path(self) -> Path:
        """The file, once something was recorded."""
        return self._folder / f"{self._name}.json"

    def write(self) -> None:
        """Writes what was recorded."""
        golds = [{"id": query_id, "output": output} for query_id, output in self._outputs.items()]
        write_text(self.path, msgspec.json.encode({"task": self._name, "golds": golds}).decode())


def _of_one_task(generations: Iterable[Generation]) -> tuple[int, Iterator[Generation]]:
    stream = iter(generations)
    first = next(stream, None)
    if first is None:
        raise DataError("no generations to evaluate", hint="give at least one record that `prlm generate` wrote")
    task = _task(first)
    return task, chain([first], (_checked(generation, task) for generation in stream))


def _checked(generation: Generation, task: int) -> Generation:
    if _task(generation) != task:
        raise DataError(
            f"query '{generation.query_id}' is of another task than LaMP_{task}, which came first",
            hint="evaluate one task at a time",
        )
    return generation


def _task(generation: Generation) -> int:
    task = task_number(generation)
    if task not in LEADERBOARD:
        raise DataError(
            f"query '{generation.query_id}' is of no task of LaMP",
            hint="its meta.task must be LaMP_1 to LaMP_7, as `prlm index` of LaMP's files has it",
        )
    return task
