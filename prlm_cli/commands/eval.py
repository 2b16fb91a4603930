"""`prlm eval`: which kind of evaluation is meant; each kind is a file in `kinds_of_eval`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from prlm_cli.commands import options
from prlm_cli.commands.flags import RETRIEVAL_FLAGS, Layers, config_flags
from prlm_cli.commands.kinds_of_eval.conditions import Asked, measure_conditions
from prlm_cli.commands.kinds_of_eval.delivery import Delivery
from prlm_cli.commands.kinds_of_eval.generations import score_generations
from prlm_cli.commands.kinds_of_eval.retrieval import measure_retrieval
from prlm_cli.commands.kinds_of_eval.reward_models import judge_reward_model
from prlm_cli.commands.kinds_of_eval.suites import measure_suite
from prlm_cli.core.errors import SettingsError

app = options.new_app()


_OF_CONDITIONS = ("--metrics", "--split", "--policy", "--report", "retrieval")
_GOES_WITH = {
    "": ("--metrics", "--report", "--submission"),
    "--retrieval": ("--split", "retrieval"),
    "--reward-model": ("--report",),
    "--suite": ("--metrics", "--policy", "retrieval"),
    "--controls": _OF_CONDITIONS,
    "--sweep": _OF_CONDITIONS,
    "--attack": _OF_CONDITIONS,
    "--baseline": _OF_CONDITIONS,
}
"""Which of the flags that not all kinds of evaluation take go with each; "" is that of a file of generations."""


@app.command("eval", cls=options.bare("--reward-model", "--attack"))
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
        typer.Option("--split", help="Queries of the index, where there is no INPUT; default: test."),
    ] = None,
    reward_model: Annotated[
        str | None,
        typer.Option("--reward-model", metavar="[NAME]", help="Judge a reward model; without a name the newest."),
    ] = None,
    suite: Annotated[
        str | None, typer.Option("--suite", metavar="NAME", help="INPUT is this benchmark's file.")
    ] = None,
    controls: Annotated[
        bool, typer.Option("--controls", help="Answer again with other records and other reasoning.")
    ] = False,
    sweep: Annotated[
        str | None, typer.Option("--sweep", metavar="KEY=V,V;…", help="Answer with every combination of settings.")
    ] = None,
    attack: Annotated[
        str | None, typer.Option("--attack", metavar="[NAMES]", help="Answer with perturbed records; default: all.")
    ] = None,
    baseline: Annotated[
        str | None, typer.Option("--baseline", metavar="best", help="Compare with the untrained model's best prompt.")
    ] = None,
    policy: Annotated[
        str | None, typer.Option("--policy", help="Who answers: run, adapter folder or none; default: newest.")
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

    --suite lets a policy answer a published benchmark from its own file: lamp-1 to lamp-7, longlamp-abstract, -review,
    -topic and -email, realpref, personalllm. Open answers need a judge: judge.by.

    --controls tells whether a policy's gain is personal: it answers with the users' own records, with none, shuffled
    ones, those of a random and of a near user, without its reasoning and with that about another query. --sweep answers
    with every combination of some settings of retrieval or prompt, --attack with records that were tampered with: swap,
    enrich, pad, user-swap, shuffle, dup, injection. --baseline best sets a policy against the untrained model in the
    layout and with the number of records that suit it best, chosen on other queries. INPUT holds queries or retrieved
    records; answers are kept in the workspace's cache, so that a stopped run goes on.

    --report writes one page that needs nothing else: metrics, users, and the best, worst and some random answers. It
    numbers the users; --set eval.report_text=false leaves out their text, so that the page can be shared.

    --preset lamp reports what LaMP's leaderboard does for the task of the generations, --preset paper what PrLM's
    released evaluation computes, which is neither ROUGE nor BLEU.

    Example: prlm generate --split test | prlm eval -
    Example: prlm eval generations.jsonl --metrics rougeL,exact_match --report report.html
    Example: prlm eval generations.jsonl --preset lamp --submission predictions
    Example: prlm eval --retrieval --split dev --retriever bm25 -k 4
    Example: prlm eval --reward-model --report reward.html
    Example: prlm eval --suite lamp-5 dev_questions.json
    Example: prlm eval --controls --split dev --metrics rougeL,copy_rate --report controls.html
    Example: prlm eval --sweep "k=0,2,5;retriever=bm25,random" --split dev
    """
    options.refuse_both(("--json", json), ("--md", markdown))
    options.check_report(report, force=force)
    delivery = Delivery(per_query, report, force, json, markdown)
    named = None if metrics is None else [name.strip() for name in metrics.split(",")]
    kinds = {
        "--retrieval": retrieval,
        "--reward-model": reward_model is not None,
        "--suite": suite is not None,
        "--controls": controls,
        "--sweep": sweep is not None,
        "--attack": attack is not None,
        "--baseline": baseline is not None,
    }
    others = {
        "--metrics": metrics,
        "--split": split,
        "--policy": policy,
        "--report": report,
        "--submission": submission,
    }
    kind = _kind(kinds, others, layers)
    if reward_model is not None:
        judge_reward_model(layers, workspace, source, reward_model, delivery)
    elif suite is not None:
        measure_suite(layers, workspace, source, suite, policy, named, delivery)
    elif retrieval:
        measure_retrieval(layers.resolve(), workspace, source, split or "test", delivery)
    elif kind:
        asked = Asked(kind, sweep or attack or baseline or "", policy, split or "test", source, named)
        measure_conditions(layers, workspace, asked, delivery)
    else:
        score_generations(layers.resolve(), workspace, source, named, submission, delivery)


def _kind(kinds: dict[str, bool], others: dict[str, Any], layers: Layers) -> str:
    """The flag of the kind of evaluation that is meant; empty for that of a file of generations.

    Raises:
        SettingsError: If there are two, or another flag does not go with it.
    """
    named = [flag for flag, is_given in kinds.items() if is_given]
    if len(named) > 1:
        raise SettingsError(f"{' and '.join(named)} do not go together", hint="leave one of the two out")
    kind = named[0] if named else ""
    given = [flag for flag, value in others.items() if value is not None and flag not in _GOES_WITH[kind]]
    if "retrieval" not in _GOES_WITH[kind]:
        given += [key for key in layers.flags if key.startswith("retrieval.")]
    if given and kind:
        raise SettingsError(f"{', '.join(given)} does not go with {kind}", hint="leave one of the two out")
    if given:
        raise SettingsError(
            f"{', '.join(given)} given with generations, which hold their records and name their policy",
            hint="leave it out, or name a kind of evaluation, such as --controls",
        )
    return kind
