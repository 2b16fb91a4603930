"""`prlm eval`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from msgspec import structs

from prlm_cli import ui
from prlm_cli.commands import options
from prlm_cli.commands.flags import RETRIEVAL_FLAGS, Config, Layers, config_flags
from prlm_cli.core import jsonl
from prlm_cli.core.errors import DataError, SettingsError

if TYPE_CHECKING:
    from msgspec import Struct

    from prlm_cli.metrics.intervals import Interval
    from prlm_cli.pipeline.evaluate import Evaluation
    from prlm_cli.pipeline.retrieval_quality import RetrievalQuality, RetrieverQuality
    from prlm_cli.pipeline.reward_quality import RewardQuality

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
    report: Annotated[
        Path | None, typer.Option("--report", metavar="FILE.html", help="With --reward-model: write a page with plots.")
    ] = None,
    per_query: Annotated[Path | None, typer.Option("--per-query", help="Write each query's scores to a file.")] = None,
    workspace: options.WorkspaceDir = options.DEFAULT_WORKSPACE,
    force: options.Force = False,
    json: options.Json = False,
) -> None:
    """Score generations: the mean of each metric, with its 95 % interval over users.

    --per-query - prints one JSON line a query instead of the table.

    --retrieval helps to choose a retriever before anything is trained: how much the titles of the k records share with
    the target (at best, and in the mean), beside the newest records, random ones, and those of another user. INPUT then
    holds queries or retrieved records.

    --reward-model tells, before a policy is trained by it, whether a reward model measures how an answer fits its user:
    on pairs of users that it was not trained on, beside rules without training. The pairs are the run's own; INPUT,
    before the flag, holds others. It also chooses among completions of each query: diagnostics.samples, 0 for none.

    Example: prlm generate --split test | prlm eval -
    Example: prlm eval generations.jsonl --metrics rougeL,exact_match --json
    Example: prlm eval --retrieval --split dev --retriever bm25 -k 4
    Example: prlm eval --reward-model --report reward.html
    """
    deliver = partial(_deliver, per_query=per_query, force=force, as_json=json)
    if reward_model is not None:
        others = {"--metrics": metrics, "--retrieval": retrieval, "--split": split}
        _refuse(others, layers, "with --reward-model", hint="leave one of the two out")
        name, judged = _judge_reward_model(layers, workspace, source, reward_model)
        deliver({"run": name, **judged.as_dict()}, judged.scores, lambda: _print_reward_quality(judged))
        if report:
            _write_report(report, name, judged, force=force)
        return
    config = layers.resolve()
    if report:
        raise SettingsError("--report given without --reward-model", hint="only that has a report so far")
    if retrieval:
        if metrics is not None:
            raise SettingsError("--metrics does not go with --retrieval", hint="leave one of the two out")
        quality = _measure_retrieval(config, workspace, source, split or "test")
        deliver(quality.as_dict(), quality.overlaps.records(), lambda: _print_retrieval(quality))
        return
    _refuse({"--split": split}, layers, "without --retrieval", hint="generations hold their records")
    from prlm_cli.pipeline.evaluate import evaluate as run
    from prlm_cli.pipeline.evaluate import read_generations

    if source is None:
        raise DataError("eval has no INPUT", hint="name a JSONL file of generations, or - for standard input")
    settings = config.eval
    if metrics is not None:
        settings = structs.replace(settings, metrics=[name.strip() for name in metrics.split(",")])
    result = run(read_generations(source), settings, seed=config.seed)
    deliver(result.as_dict(), result.scores.records(), lambda: _print_metrics(result))


def _refuse(given: dict[str, Any], layers: Layers, how: str, *, hint: str) -> None:
    """Refuses flags that go with another kind of evaluation, those of retrieval among them."""
    flags = [key for key in layers.flags if key.startswith("retrieval.")] + [name for name in given if given[name]]
    if flags:
        raise SettingsError(f"{', '.join(flags)} given {how}", hint=hint)


def _judge_reward_model(layers: Layers, folder: Path, source: Path | None, name: str) -> tuple[str, RewardQuality]:
    """The run's name and the diagnostics of its model; an empty name is the newest."""
    from prlm_cli.core.settings import resolve
    from prlm_cli.pipeline.evaluate_reward import evaluate_reward, reward_run
    from prlm_cli.pipeline.given_pairs import given_pairs

    workspace = options.open_workspace(folder)
    if name and source is None and Path(name).is_file():
        raise SettingsError(f"--reward-model {name}: that is a file", hint="write INPUT before --reward-model")
    run = reward_run(workspace, name)
    config = layers.resolve(resolve(config_file=run.folder / "config.toml"))
    reporter = ui.Terminal()
    pairs = given_pairs(workspace, source, config, reporter) if source is not None else None
    return run.name, evaluate_reward(workspace, run, config, pairs=pairs, reporter=reporter)


def _measure_retrieval(config: Config, folder: Path, source: Path | None, split: str) -> RetrievalQuality:
    from prlm_cli.pipeline.retrieval_quality import read_queries, retrieval_quality
    from prlm_cli.pipeline.sources import queries_from

    measure = partial(
        retrieval_quality,
        settings=config.retrieval,
        bootstrap=config.eval.bootstrap,
        seed=config.seed,
        reporter=ui.Terminal(),
    )
    workspace = options.open_workspace(folder)
    if source is not None and not workspace.index.exists():
        return measure(None, read_queries(source))
    with workspace.open_store() as store:
        if source is not None:
            return measure(store, read_queries(source))
        return measure(store, queries_from(store, path=None, split=split, user_id=None, text=None))


def _deliver(
    summary: dict[str, Any],
    records: Iterable[Struct],
    print_table: Callable[[], None],
    *,
    per_query: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    if per_query == jsonl.STDIN:
        ui.print_records(records)
        return
    if as_json:
        ui.print_json(summary)
    else:
        print_table()
    if per_query:
        ui.note(f"{jsonl.write(per_query, records, force=force)} records in {per_query}")


def _print_metrics(result: Evaluation) -> None:
    policies, retrievers = (ui.visible(", ".join(names)) for names in (result.policies, result.retrievers))
    ui.note(f"{result.n} generations for {result.users} users; policy {policies}; retriever {retrievers}")
    rows = [
        (metric, f"{summary.mean:.4f}", f"{summary:.4f}", summary.n) if summary else (metric, "n/a", "n/a", 0)
        for metric, summary in result.metrics.items()
    ]
    ui.print_table(["metric", "mean", "95 % interval", "n"], rows)


def _print_reward_quality(quality: RewardQuality) -> None:
    from prlm_cli.pipeline.reward_report import tables

    for name, part in quality.parts.items():
        for number, found in enumerate(tables(part)):
            ui.print_line(end="" if number else f"{name}: {part.pairs} pairs of {part.users} users\n")
            ui.print_table(found.header, found.rows)
            ui.print_line()
    ui.print_line(quality.verdict)


def _write_report(path: Path, name: str, quality: RewardQuality, *, force: bool) -> None:
    from prlm_cli.core.workspace import write_text
    from prlm_cli.pipeline.reward_report import html_report

    if path.exists() and not force:
        raise DataError(f"{path} exists", hint="use --force to replace it")
    write_text(path, html_report(name, quality))
    ui.note(f"report in {path}")


def _print_retrieval(result: RetrievalQuality) -> None:
    from prlm_cli.pipeline.retrieval_quality import MEASURES

    left_out = f"; left out {result.without_target} queries without a target" if result.without_target else ""
    ui.note(f"{result.n} queries of {result.users} users, at most {result.k} records each{left_out}")
    for found in result.retrievers:
        if found.empty:
            ui.note(f"{ui.visible(found.retriever)}: no records for {found.empty} queries, which score 0")
    chosen = result.retrievers[0].retriever
    header = ["retriever", "overlap", "value", "95 % interval", f"{chosen} - it", "95 % interval", "n", "users"]
    ui.print_table(header, [_row(found, measure) for measure in MEASURES for found in result.retrievers])


def _row(found: RetrieverQuality, measure: str) -> list[str]:
    value: Interval = getattr(found.overlap, measure)
    minus: Interval | None = getattr(found.chosen_minus, measure, None)
    return [
        found.retriever,
        measure.replace("_", " "),
        f"{value.mean:.4f}",
        f"{value:.4f}",
        f"{minus.mean + 0.0:+.4f}" if minus else "",
        f"{minus:+.4f}" if minus else "",
        str(value.n),
        str(value.users),
    ]
