"""`prlm demo`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prlm_cli import ui
from prlm_cli.commands import options

if TYPE_CHECKING:
    from prlm_cli.core.records import Generation
    from prlm_cli.pipeline.demo import Demonstration, StageDone

app = options.new_app()

_EXCERPT_CHARACTERS = 150


@app.command()
def demo(
    quick: Annotated[bool, typer.Option("--quick", help="Every stage, but short.")] = False,
    keep: Annotated[Path, typer.Option("--keep", help="Workspace to leave behind.")] = Path("prlm-demo"),
    seed: options.Seed = 0,
    json: options.Json = False,
) -> None:
    """Run the whole pipeline on the embedded model and corpus.

    Example: prlm demo
    Example: prlm demo --quick --keep /tmp/prlm-demo
    """
    options.open_workspace(keep)
    from prlm_cli.pipeline.demo import demo as run

    started = time.monotonic()
    result = run(keep, quick=quick, seed=seed, reporter=ui.Terminal(), on_stage=_ignore if json else _print_stage)
    if json:
        ui.print_json(_as_dict(result))
        return
    ui.print_line()
    _print_table(result)
    for untrained, trained in result.examples:
        _print_example(untrained, trained)
    ui.print_line(f"\nDone in {ui.duration(time.monotonic() - started)}. The workspace is {keep}; try for example")
    ui.print_line(f"  prlm generate -w {keep} --user {ui.visible(result.examples[0][0].user_id)}")
    ui.print_line(f"  prlm compare {keep}/trained.jsonl {keep}/untrained.jsonl --metric rougeL")


def _ignore(stage: StageDone) -> None:
    return None


def _print_stage(stage: StageDone) -> None:
    ui.print_line(f"{stage.name:<13} {ui.duration(stage.seconds):>6}  {stage.outcome}")


def _print_table(result: Demonstration) -> None:
    ui.print_table(
        ["held-out notes", "ROUGE-1", "ROUGE-L", "95 % interval", "well-formed", "n"],
        [
            [
                row.label,
                f"{row.rouge1.mean:.3f}",
                f"{row.rouge_l.mean:.3f}",
                f"{row.rouge_l:.3f}",
                f"{row.format_rate.mean:.2f}",
                row.rouge_l.n,
            ]
            for row in result.rows
        ],
    )
    learned, personal = result.learned, result.personal
    ui.print_line(f"\ntrained - untrained        {learned.mean:+.3f} ROUGE-L {learned:+.3f}, paired, by user")
    ui.print_line(f"own - another's profile    {personal.mean:+.3f} ROUGE-L {personal:+.3f}, paired, by user")


def _print_example(untrained: Generation, trained: Generation) -> None:
    excerpt = untrained.text[:_EXCERPT_CHARACTERS]
    ui.print_line(f"\n{ui.visible(untrained.user_id)} wrote: {ui.visible(excerpt)}...")
    for label, value in (
        ("own title", untrained.target),
        ("untrained", untrained.answer),
        ("trained", trained.answer),
        ("reasoning", trained.reasoning),
    ):
        ui.print_line(f"  {label:<10} {ui.visible(value or '(none)')}")


def _as_dict(result: Demonstration) -> dict[str, object]:
    return {
        "rows": {
            row.label: {name: getattr(row, name) for name in ("rouge1", "rouge_l", "format_rate")}
            for row in result.rows
        },
        "form": result.form._asdict(),
        "trained_minus_untrained": result.learned,
        "own_minus_another": result.personal,
    }
