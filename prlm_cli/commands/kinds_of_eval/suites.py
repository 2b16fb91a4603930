"""`prlm eval --suite`: a published benchmark from its own file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from prlm_cli import ui
from prlm_cli.commands import options
from prlm_cli.commands.flags import Layers
from prlm_cli.commands.kinds_of_eval.delivery import Delivery
from prlm_cli.core.errors import DataError

if TYPE_CHECKING:
    from prlm_cli.pipeline.suites.results import Figure, SuiteResult


def measure_suite(
    layers: Layers,
    folder: Path,
    source: Path | None,
    suite: str,
    policy: str | None,
    metrics: list[str] | None,
    delivery: Delivery,
) -> None:
    """Lets a policy answer a benchmark's questions and prints the benchmark's figures."""
    from prlm_cli.pipeline.suites.run import run_suite

    if source is None:
        raise DataError("eval --suite has no INPUT", hint="name the benchmark's own file")
    workspace = options.open_workspace(folder)
    result = run_suite(workspace, suite, source, layers.resolve, policy=policy, metrics=metrics, reporter=ui.Terminal())
    delivery.result(result.as_dict(), result.records, lambda: _print(result, delivery))


def _print(result: SuiteResult, delivery: Delivery) -> None:
    from prlm_cli.report.table import Table

    ui.note(f"{result.suite}: {result.n} questions of {result.users} users; policy {ui.visible(result.policy)}")
    for note in result.notes:
        ui.note(note)
    header = ["figure", "of", "value", "95 % interval", "n"]
    delivery.table(Table(header, [_row(figure) for figure in result.figures]))


def _row(figure: Figure) -> list[str]:
    value = "n/a" if figure.value is None else f"{figure.value:.4f}"
    ends = "" if figure.low is None or figure.high is None else f"[{figure.low:.4f}, {figure.high:.4f}]"
    return [figure.name, ui.visible(figure.of), value, ends, str(figure.n)]
