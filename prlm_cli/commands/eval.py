"""`prlm eval`: which kind of evaluation is meant; each kind is a file in `kinds_of_eval`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from prlm_cli.commands import options
from prlm_cli.commands.flags import RETRIEVAL_FLAGS, Layers, config_flags
from prlm_cli.commands.kinds_of_eval.delivery import Delivery
from prlm_cli.commands.kinds_of_eval.generations import score_generations
from prlm_cli.commands.kinds_of_eval.retrieval import measure_retrieval
from prlm_cli.commands.kinds_of_eval.reward_models import judge_reward_model
from prlm_cli.core.errors import SettingsError

app = options.new_app()


@app.command("eval", cls=options.bare("--reward-model"))
@config_flags(**RETRIEVAL_FLAGS, seed="seed")
def evaluate(
    layers: Layers,
    source: options.Input = None,
    metrics: Annotated[str | None, typer.Option("--metrics", help="Metrics to report, separated by commas.")] = None,
    retrieval: Annotated[
        bool, typer.Option("--retrieval", help="Measure retrieved records instead of generations.")
    ] = False,
    split: Annotated[
        str | None,
        typer.Option("--split", help="With --retrieval: queries of the index, without INPUT; default: test."),
    ] = None,
    reward_model: Annotated[
        str | None,
        typer.Option("--reward-model", metavar="[NAME]", help="Judge a reward model; without a name the newest."),
    ] = None,
    report: options.Report = None,
    submission: Annotated[
        Path | None, typer.Option("--submission", metavar="DIR", help="Write the answers as LaMP's scorer reads them.")
    ] = None,
    per_query: Annotated[Path | None, typer.Option("--per-query", help="Write each query's scores to a file.")] = None,
    workspace: options.WorkspaceDir = options.DEFAULT_WORKSPACE,
    force: options.Force = False,
    json: options.Json = False,
    markdown: options.Markdown = False,
) -> None:
    """Score generations: the mean of each metric, with its 95 % interval over users.

    --per-query - prints one JSON line a query instead of the table.

    --retrieval helps to choose a retriever before anything is trained: how much the titles of the k records share with
    the target (at best, and in the mean), beside the newest records, random ones, and those of another user. INPUT then
    holds queries or retrieved records.

    --reward-model tells, before a policy is trained by it, whether a reward model measures how an answer fits its user:
    on pairs of users that it was not trained on, beside rules without training. The pairs are the run's own; INPUT,
    before the flag, holds others. It also chooses among completions of each query: diagnostics.samples, 0 for none.

    --report writes one page that needs nothing else: metrics, users, and the best, worst and some random answers. It
    numbers the users; --set eval.report_text=false leaves out their text, so that the page can be shared.

    --preset lamp reports what LaMP's leaderboard does for the task of the generations, --preset paper what PrLM's
    released evaluation computes, which is neither ROUGE nor BLEU.

    Example: prlm generate --split test | prlm eval -
    Example: prlm eval generations.jsonl --metrics rougeL,exact_match --report report.html
    Example: prlm eval generations.jsonl --preset lamp --submission predictions
    Example: prlm eval --retrieval --split dev --retriever bm25 -k 4
    Example: prlm eval --reward-model --report reward.html
    """
    options.refuse_both(("--json", json), ("--md", markdown))
    options.check_report(report, force=force)
    delivery = Delivery(per_query, report, force, json, markdown)
    if reward_model is not None:
        others = {"--metrics": metrics, "--retrieval": retrieval, "--split": split, "--submission": submission}
        _refuse(others, layers, "with --reward-model", hint="leave one of the two out")
        judge_reward_model(layers, workspace, source, reward_model, delivery)
        return
    config = layers.resolve()
    if retrieval:
        for flag, value in {"--metrics": metrics, "--submission": submission, "--report": report}.items():
            if value is not None:
                raise SettingsError(f"{flag} does not go with --retrieval", hint="leave one of the two out")
        measure_retrieval(config, workspace, source, split or "test", delivery)
        return
    _refuse({"--split": split}, layers, "without --retrieval", hint="generations hold their records")
    named = None if metrics is None else [name.strip() for name in metrics.split(",")]
    score_generations(config, workspace, source, named, submission, delivery)


def _refuse(given: dict[str, Any], layers: Layers, how: str, *, hint: str) -> None:
    """Refuses flags that go with another kind of evaluation, those of retrieval among them."""
    flags = [key for key in layers.flags if key.startswith("retrieval.")] + [name for name in given if given[name]]
    if flags:
        raise SettingsError(f"{', '.join(flags)} given {how}", hint=hint)
