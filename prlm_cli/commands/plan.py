"""`prlm plan`."""

from __future__ import annotations

from typing import Annotated

import typer

from prlm_cli import ui
from prlm_cli.commands import options
from prlm_cli.commands.flags import Config, config_flags
from prlm_cli.commands.plan_tables import print_plan

app = options.new_app()


@app.command()
@config_flags(
    model="model.name",
    qlora="model.qlora",
    steps="policy.steps",
    reasoning="prompt.reasoning",
    num_generations="policy.num_generations",
)
def plan(
    config: Config,
    vram: Annotated[
        list[str] | None, typer.Option("--vram", metavar="SIZE", help="Card to plan for, as 8gb; repeatable.")
    ] = None,
    fit: options.Fit = None,
    processes: Annotated[
        int, typer.Option("--processes", min=1, help="Processes that train, each on a card of its own.")
    ] = 1,
    calibrate: Annotated[bool, typer.Option("--calibrate", help="Time the model here, for the time of a run.")] = False,
    json: options.Json = False,
) -> None:
    """Plan a policy training before it starts: memory, time, and what fits which card.

    Memory is told by part, and for each card the settings to use. Nothing is loaded but the model's configuration;
    only --calibrate, for the time, loads the model. With --fit, the settings are first made to fit that card.

    Example: prlm plan --model Qwen/Qwen2.5-1.5B-Instruct --vram 8gb
    Example: prlm plan --model Qwen/Qwen2.5-7B-Instruct --qlora --fit 12gb
    """
    from prlm_cli.pipeline.fit import changes, size_of_card
    from prlm_cli.pipeline.plan import CARDS, fitted
    from prlm_cli.pipeline.plan import plan as run

    options.quieten_libraries()
    cards = [size_of_card(size) for size in vram or []] or CARDS
    asked = config
    if fit:
        config = fitted(config, size_of_card(fit), "cuda", processes)
    planned = run(config, cards=cards, processes=processes, measure_pace=calibrate, reporter=ui.Terminal())
    if json:
        ui.print_json({**planned.as_dict(), "settings": changes(asked, config)})
        return
    print_plan(planned, changes(asked, config))
