"""`prlm eval --suite`: a published benchmark from its own file, answered by a policy and scored as it prescribes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
from msgspec import structs

from prlm_cli.core.errors import DataError, SettingsError
from prlm_cli.core.records import Retrieved
from prlm_cli.core.reporting import Reporter, Silent
from prlm_cli.core.settings import Config
from prlm_cli.core.workspace import Workspace
from prlm_cli.metrics import METRICS
from prlm_cli.pipeline.choosers import Chooser, LetterChooser, ScoreChooser
from prlm_cli.pipeline.evaluate import evaluate
from prlm_cli.pipeline.generate import generate
from prlm_cli.pipeline.policies import ServedModel, Writer, choose_policy, with_prompt
from prlm_cli.pipeline.retrieve import retrieve
from prlm_cli.pipeline.suites.benchmarks import benchmark
from prlm_cli.pipeline.suites.preferences import asked_of, choice_figures, given_answers, judge_open, own_answers
from prlm_cli.pipeline.suites.results import Figure, SuiteResult
from prlm_cli.pipeline.suites.sources import suite_queries, suite_store

_REWARD_MODEL = "reward-model"
_JUDGES = ("policy", "openai", _REWARD_MODEL)


def run_suite(
    workspace: Workspace,
    name: str,
    path: Path,
    resolve_over: Callable[[Config | None], Config],
    *,
    policy: str | None = None,
    metrics: Sequence[str] | None = None,
    reporter: Reporter | None = None,
) -> SuiteResult:
    """The figures of a policy on a suite.

    A trained policy keeps the prompts that it was trained with; any other gets those of the suite's task.

    Args:
        workspace: Where policies and reward models lie.
        name: A name in `BENCHMARKS`.
        path: The suite's own file.
        resolve_over: Lays the caller's settings over those of a run, or of the suite.
        policy: A run, an adapter's folder or "none"; default: the newest.
        metrics: Instead of the suite's own.
        reporter: Told of progress, and of what cannot be measured.

    Raises:
        DataError: If the file cannot be read or is of another suite, or there is no such policy or reward model.
        SettingsError: If the suite, a metric or a judge is unknown.
    """
    reporter = reporter or Silent()
    suite = benchmark(name)
    if metrics is not None and not suite.metrics:
        raise SettingsError(f"--metrics does not go with --suite {name}", hint="its choices and judges have their own")
    own = with_prompt(Config(), task=suite.task)
    chosen = choose_policy(workspace, policy, lambda base: resolve_over(base or own), reporter)
    config = chosen.config
    scored_by = list(suite.metrics if metrics is None else metrics)
    for metric in scored_by:
        METRICS[metric]  # an unknown one is known before anything is written
    _check_judges(config)
    with suite_store(name, suite, path, config) as store:
        asked = suite_queries(name, suite, path, store)
        queries = list(retrieve(store, asked, config.retrieval, prompt=config.prompt, seed=config.seed))
    writer = chosen.writer(reporter)
    if suite.metrics:
        return _scored(name, writer, queries, _with_metrics(config, scored_by), reporter)
    return _preferences(name, workspace, writer, queries, config, reporter)


def _scored(name: str, writer: Writer, queries: Sequence[Retrieved], config: Config, reporter: Reporter) -> SuiteResult:
    """A suite whose answers have a target."""
    found = evaluate(generate(queries, writer, config, reporter=reporter), config.eval, seed=config.seed)
    figures = [Figure.with_interval(metric, "all", value) for metric, value in found.metrics.items()]
    return SuiteResult(name, writer.name, found.n, found.users, figures, list(found.scores.records()))


def _preferences(
    name: str, workspace: Workspace, writer: Writer, queries: Sequence[Retrieved], config: Config, reporter: Reporter
) -> SuiteResult:
    """A suite of choices and open questions."""
    open_ones = [query for query in queries if asked_of(query).kind == "open"]
    choices = [query for query in queries if asked_of(query).kind != "open"]
    figures: list[Figure] = []
    records: list[msgspec.Struct] = []
    notes: list[str] = []
    judges = _judges(workspace, writer, config, reporter) if open_ones else []  # a missing one is known at once
    if choices:
        found, chosen = choice_figures(LetterChooser(writer, config), choices, config)
        figures += found
        records += chosen
    if open_ones and not judges:
        notes.append(f"{len(open_ones)} open questions have no judge; --set 'judge.by=[\"openai\"]' names one")
    elif open_ones:
        pairs = {"history": own_answers(writer, open_ones, config, reporter), "given": given_answers(open_ones)}
        for what, rivals in pairs.items():
            if rivals:
                judged, verdicts = judge_open(judges, rivals, what, config)
                figures += judged
                records += verdicts
    users = len({query.user_id for query in queries})
    return SuiteResult(name, writer.name, len(queries), users, figures, records, notes)


def _check_judges(config: Config) -> None:
    for by in config.judge.by:
        if by not in _JUDGES and not by.startswith(f"{_REWARD_MODEL}:"):
            raise SettingsError(f"judge.by: no judge '{by}'", hint=f"known: {', '.join(_JUDGES)}, {_REWARD_MODEL}:NAME")


def _judges(workspace: Workspace, writer: Writer, config: Config, reporter: Reporter) -> list[Chooser]:
    """The judges that the settings name; one that they name in two ways is there once."""
    named = (_judge(by, workspace, writer, config, reporter) for by in config.judge.by)
    return list({judge.name: judge for judge in named}.values())


def _judge(by: str, workspace: Workspace, writer: Writer, config: Config, reporter: Reporter) -> Chooser:
    """The judge that a setting names."""
    if by == "policy":
        return LetterChooser(writer, config, name="policy")
    if by == "openai":
        return LetterChooser(ServedModel(config), config)
    from prlm_cli.pipeline.reward_models import load_reward_model

    named = by.partition(":")[2]
    run = workspace.finished_run(named, "reward") if named else workspace.latest("reward")
    if run is None:
        raise DataError(f"no reward model in {workspace.folder}", hint="run `prlm train-reward` first")
    return ScoreChooser(load_reward_model(run, reporter), f"{_REWARD_MODEL}:{run.name}")


def _with_metrics(config: Config, metrics: list[str]) -> Config:
    return structs.replace(config, eval=structs.replace(config.eval, metrics=metrics))
