"""`prlm eval --reward-model`: whether a reward model measures how an answer fits its user."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from prlm_cli import ui
from prlm_cli.commands import options
from prlm_cli.commands.flags import Layers
from prlm_cli.commands.kinds_of_eval.delivery import Delivery
from prlm_cli.core.errors import SettingsError

if TYPE_CHECKING:
    from prlm_cli.pipeline.reward_quality import RewardQuality


def judge_reward_model(layers: Layers, folder: Path, source: Path | None, name: str, delivery: Delivery) -> None:
    """Judges the model of a run, the newest where the name is empty, on its own pairs or those of a file."""
    from prlm_cli.core.configuration import resolve
    from prlm_cli.pipeline.evaluate_reward import evaluate_reward, reward_run
    from prlm_cli.pipeline.given_pairs import given_pairs
    from prlm_cli.pipeline.reward_report import html_report

    workspace = options.open_workspace(folder)
    if name and source is None and Path(name).is_file():
        raise SettingsError(f"--reward-model {name}: that is a file", hint="write INPUT before --reward-model")
    run = reward_run(workspace, name)
    config = layers.resolve(resolve(config_file=run.folder / "config.toml"))
    reporter = ui.Terminal()
    pairs = given_pairs(workspace, source, config, reporter) if source is not None else None
    judged = evaluate_reward(workspace, run, config, pairs=pairs, reporter=reporter)
    delivery.result({"run": run.name, **judged.as_dict()}, judged.scores, lambda: _print(judged, delivery))
    delivery.page(lambda: html_report(run.name, judged))


def _print(quality: RewardQuality, delivery: Delivery) -> None:
    from prlm_cli.pipeline.reward_report import tables

    for name, part in quality.parts.items():
        for number, found in enumerate(tables(part)):
            ui.print_line(end="" if number else f"{name}: {part.pairs} pairs of {part.users} users\n")
            delivery.table(found)
            ui.print_line()
    ui.print_line(quality.verdict)
