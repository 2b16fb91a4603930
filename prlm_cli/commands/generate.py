"""`prlm generate`."""

from __future__ import annotations

from typing import Annotated

import typer

from prlm_cli import ui
from prlm_cli.commands import options
from prlm_cli.commands.flags import Layers, config_flags

app = options.new_app()


@app.command()
@config_flags(
    model="model.name",
    k="retrieval.k",
    retriever="retrieval.retriever",
    batch_size="generation.batch_size",
    max_new_tokens="generation.max_new_tokens",
    temperature="generation.temperature",
    engine="generation.engine",
    seed="seed",
)
def generate(
    layers: Layers,
    source: options.Input = None,
    workspace: options.WorkspaceDir = options.DEFAULT_WORKSPACE,
    user: Annotated[str | None, typer.Option("--user", help="This user's open queries.")] = None,
    text: Annotated[str | None, typer.Option("--text", help="One query of that user; - reads it from stdin.")] = None,
    split: options.Split = "test",
    policy: Annotated[
        str | None, typer.Option("--policy", help="Run, adapter folder or none; default: newest.")
    ] = None,
    allow_prompt_drift: Annotated[
        bool, typer.Option("--allow-prompt-drift", help="Use a policy although its prompts looked different.")
    ] = False,
    output: options.OutFile = None,
    force: options.Force = False,
    json: options.Json = False,
) -> None:
    """Write personalised answers with their reasoning.

    INPUT holds queries or retrieved records; queries get their records from the index first.

    --engine openai asks any server with OpenAI's chat completions, which server.url and server.model name. It
    gets the prompts, with the user's records in them.

    Example: prlm generate --user u123
    Example: prlm retrieve -k 5 queries.jsonl | prlm generate - | prlm eval -
    """
    where = options.open_workspace(workspace)
    from prlm_cli.pipeline.generate import generate as run
    from prlm_cli.pipeline.policies import choose_policy
    from prlm_cli.pipeline.sources import retrieved_from

    reporter = ui.Terminal()
    chosen = choose_policy(where, policy, layers.resolve, reporter, allow_prompt_drift=allow_prompt_drift)
    records = retrieved_from(where, chosen.config, path=source, split=split, user_id=user, text=text)
    results = run(records, chosen.writer(reporter), chosen.config, reporter=reporter)
    options.deliver(results, output=output, force=force, as_json=json)
