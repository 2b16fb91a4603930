"""What benchmarks share: interleaved measurements, medians of ratios, and the figures as a table or as JSON."""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median
from typing import NamedTuple, TypeVar

from prlm_cli.core.reporting import Stage

Measured = TypeVar("Measured")


class Figure(NamedTuple):
    """One number of a benchmark."""

    name: str
    value: float
    unit: str


class Figures:
    """The figures of one run, in the order in which they came."""

    def __init__(self) -> None:
        self._figures: dict[str, Figure] = {}

    def add(self, name: str, value: float, unit: str) -> None:
        """Adds a figure; each name comes once."""
        assert name not in self._figures, name
        self._figures[name] = Figure(name, float(value), unit)
        progress(f"{name} = {value:.4g} {unit}")

    def __getitem__(self, name: str) -> float:
        return self._figures[name].value

    def __contains__(self, name: object) -> bool:
        return name in self._figures

    def as_json(self) -> str:
        """`{"figures": [{"name", "value", "unit"}, ...]}`, indented."""
        rows = [{**figure._asdict(), "value": float(f"{figure.value:.6g}")} for figure in self._figures.values()]
        return json.dumps({"figures": rows}, indent=1)

    def as_tables(self, aims: Mapping[str, str], sizes: Sequence[str]) -> str:
        """Markdown tables: figures with an aim, those given at several sizes (`NAME_SIZE`), and all others.

        Args:
            aims: What each figure should reach, in words, by name.
            sizes: The endings of names that become columns.
        """
        aimed = [self._figures[name] for name in aims if name in self]
        by_size: dict[tuple[str, str], dict[str, Figure]] = {}
        others = []
        for figure in self._figures.values():
            size = next((size for size in sizes if figure.name.endswith(f"_{size}")), None)
            if size is not None:
                by_size.setdefault((figure.name.removesuffix(f"_{size}"), figure.unit), {})[size] = figure
            elif figure not in aimed:
                others.append(figure)
        tables = [
            _table(["figure", "value", "unit", "aim"], [[*_cells(figure), aims[figure.name]] for figure in aimed]),
            _table(
                ["figure", "unit", *sizes],
                [
                    [stem, unit, *(_number(found[size].value) if size in found else "" for size in sizes)]
                    for (stem, unit), found in by_size.items()
                ],
            ),
            _table(["figure", "value", "unit"], [_cells(figure) for figure in others]),
        ]
        return "\n".join(table for table in tables if table)


def interleaved(rounds: int, measures: Mapping[str, Callable[[], Measured]]) -> dict[str, list[Measured]]:
    """Runs every measure once a round, A B A B ..., so that a busy moment meets all; what each gave, by name."""
    taken: dict[str, list[Measured]] = {name: [] for name in measures}
    for _ in range(rounds):
        for name, measure in measures.items():
            taken[name].append(measure())
    return taken


def timed(work: Callable[[], object]) -> Callable[[], float]:
    """The work as a measure of its wall time, in seconds."""

    def measure() -> float:
        gc.collect()
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    return measure


def cpu_timed(work: Callable[[], object]) -> Callable[[], float]:
    """The work as a measure of the CPU time that this process takes for it, in seconds.

    With one thread that is its wall time where nothing else runs, and nearly the same where something does.
    """

    def measure() -> float:
        gc.collect()
        start = time.process_time()
        work()
        return time.process_time() - start

    return measure


def ratio(numerators: Iterable[float], denominators: Iterable[float]) -> float:
    """The median of the rounds' own ratios: both sides of one round met the same load."""
    return median(above / below for above, below in zip(numerators, denominators, strict=True))


def progress(line: str) -> None:
    """Says a line on stderr, with the time since the program started."""
    sys.stderr.write(f"[{time.perf_counter() - _START:6.0f} s] {line}\n")
    sys.stderr.flush()


class ProgressLines:
    """A reporter whose notes and stages are lines of the benchmark's progress, a stage's once in half a minute."""

    def note(self, text: str) -> None:
        """Says it."""
        progress(text)

    def stage(self, name: str) -> Stage:
        """The progress of a new stage."""
        said = 0.0

        def report(done: int, total: int = 0, **figures: float) -> None:
            nonlocal said
            if time.monotonic() > said + 30:
                said = time.monotonic()
                progress(f"{name} {done}/{total} " + " ".join(f"{key}={value:.3g}" for key, value in figures.items()))

        return report


_START = time.perf_counter()


def _cells(figure: Figure) -> list[str]:
    return [figure.name, _number(figure.value), figure.unit]


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
