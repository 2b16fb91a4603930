"""`prlm demo`: the whole pipeline in miniature, on the corpus that ships with the package."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

from msgspec import structs

from prlm_cli.core import jsonl
from prlm_cli.core.configuration import resolve
from prlm_cli.core.errors import DataError
from prlm_cli.core.records import Document, Generation, Retrieved, widen
from prlm_cli.core.reporting import Reporter
from prlm_cli.core.settings import Config, EvalSettings
from prlm_cli.core.workspace import Run, Workspace
from prlm_cli.metrics.intervals import Interval
from prlm_cli.pipeline.compare import compare
from prlm_cli.pipeline.evaluate import MetricSummary, evaluate
from prlm_cli.pipeline.generate import generate
from prlm_cli.pipeline.index import index
from prlm_cli.pipeline.layouts import Form, measure_forms
from prlm_cli.pipeline.policies import Policy, builder_for, load_policy, with_prompt
from prlm_cli.pipeline.queries import stored_queries
from prlm_cli.pipeline.retrieve import retrieve, swapped_profile
from prlm_cli.pipeline.train_policy import train_policy
from prlm_cli.pipeline.train_reward import train_reward

REWARD_RUN, POLICY_RUN = "demo-reward", "demo-policy"
_CORPUS = "corpus.jsonl"
_EXAMPLES = 3
_ROWS = {
    "no_profile": "untrained, no profile",
    "untrained": "untrained, own profile",
    "trained": "trained, own profile",
    "swapped": "trained, another's profile",
}


class StageDone(NamedTuple):
    """One finished stage: its name, what came out, and how long it took in seconds."""

    name: str
    outcome: str
    seconds: float


class Row(NamedTuple):
    """One line of the table: what was generated, and its scores."""

    label: str
    rouge1: MetricSummary
    rouge_l: MetricSummary
    format_rate: MetricSummary


class Demonstration(NamedTuple):
    """What the demo measured: the table, two paired differences in ROUGE-L, and examples (untrained, trained)."""

    rows: list[Row]
    form: Form
    learned: Interval
    personal: Interval
    examples: list[tuple[Generation, Generation]]


class _Size(NamedTuple):
    """How much is measured."""

    form_queries: int
    ks: tuple[int, ...]
    test_queries: int | None


_FULL = _Size(form_queries=8, ks=(2, 3), test_queries=None)
_QUICK = _Size(form_queries=3, ks=(2,), test_queries=4)


def demo(
    folder: Path, *, quick: bool, seed: int, reporter: Reporter, on_stage: Callable[[StageDone], None]
) -> Demonstration:
    """Indexes, trains, generates and evaluates; leaves a workspace that every other command works with.

    Args:
        folder: The workspace to leave; an interrupted demo in it goes on.
        quick: Every stage, but short.
        seed: Of everything random.
        reporter: Told about progress.
        on_stage: Called with each finished stage.

    Raises:
        DataError: If the folder holds somebody's own index.
    """
    size, settings = (_QUICK, "quick.toml") if quick else (_FULL, "full.toml")
    with files("prlm_cli.demo").joinpath(settings).open("rb") as stream:
        config = resolve(config_file=Path(stream.name), flags={"seed": seed})
    workspace = Workspace(folder)
    clock = _Clock(on_stage)
    with files("prlm_cli.demo").joinpath(_CORPUS).open("rb") as stream:
        corpus = Path(stream.name)
    _check_is_ours(workspace, corpus)
    indexed = index(workspace, [corpus])
    clock.done("index", f"{indexed.total['users']} people, {indexed.total['documents']} notes")
    base = load_policy(with_prompt(config, layout="completion", reasoning="off"), reporter=reporter)
    form = _best_form(workspace, base, config, size, reporter)
    clock.done("prompt", f"untrained best: layout {form.layout}, k={form.k} (on {size.form_queries} training queries)")
    _forget_finished(workspace)
    reward = train_reward(workspace, config, name=REWARD_RUN, reporter=reporter)
    clock.done("reward model", reward.metrics["verdict"])
    policy = train_policy(workspace, config, name=POLICY_RUN, reporter=reporter)
    clock.done("policy", _policy_outcome(policy, config))
    generations = _generate_rows(workspace, base, policy, form, config, size, reporter)
    clock.done("generate", f"{sum(map(len, generations.values()))} answers to held-out queries")
    for name, rows in generations.items():
        jsonl.write(folder / f"{name}.jsonl", rows, force=True)
    return _summarise(generations, form, config)


class _Clock:
    def __init__(self, on_stage: Callable[[StageDone], None]) -> None:
        self._on_stage = on_stage
        self._last = time.monotonic()

    def done(self, name: str, outcome: str) -> None:
        now = time.monotonic()
        self._on_stage(StageDone(name, outcome, now - self._last))
        self._last = now


def _check_is_ours(workspace: Workspace, corpus: Path) -> None:
    """Refuses to mix invented people into somebody's own index."""
    if not workspace.index.exists():
        return
    ours = {document.user_id for document in jsonl.read(corpus, Document)}
    with workspace.open_store() as store:
        if set(store.users()) - ours:
            raise DataError(
                f"{workspace.folder} holds an index of other people", hint="name another folder with --keep"
            )


def _forget_finished(workspace: Workspace) -> None:
    """Removes the runs of an earlier demo, so that this one trains; an interrupted one goes on."""
    for run in workspace.runs():
        if run.name in (REWARD_RUN, POLICY_RUN) and run.is_finished:
            workspace.remove(run)


def _best_form(workspace: Workspace, base: Policy, config: Config, size: _Size, reporter: Reporter) -> Form:
    with workspace.open_store() as store:
        retrieval = structs.replace(config.retrieval, k=max(size.ks))
        # One query of each of the first people: the training split comes user by user.
        first = {query.user_id: query for query in stored_queries(store, "train")}
        queries = list(retrieve(store, islice(first.values(), size.form_queries), retrieval, seed=config.seed))
    return measure_forms(base, queries, _direct(config), ks=size.ks, reporter=reporter)[0]


def _direct(config: Config) -> Config:
    """For the untrained model, which answers without reasoning: short completions, and prompts of the usual budget.

    The demo's own budget, small to save time, would make the baseline weaker than it is.
    """
    generation = structs.replace(config.generation, max_new_tokens=None)
    return with_prompt(structs.replace(config, generation=generation), max_tokens=Config().prompt.max_tokens)


def _policy_outcome(run: Run, config: Config) -> str:
    warm, steps = config.warm_start, run.metrics["steps"]
    with_reward = run.state["reward_model"] or "no reward model"
    return f"warm start of {warm.steps} steps on {warm.kind}, then {steps} GRPO steps with {with_reward}"


def _generate_rows(
    workspace: Workspace, base: Policy, run: Run, form: Form, config: Config, size: _Size, reporter: Reporter
) -> dict[str, list[Generation]]:
    trained_config = resolve(config_file=run.folder / "config.toml")
    with workspace.open_store() as store:
        queries = list(islice(stored_queries(store, "test"), size.test_queries))
        users = store.users()
        own = list(retrieve(store, queries, config.retrieval, seed=config.seed))
        others = [swapped_profile(store, query, users, config.retrieval, seed=config.seed) for query in queries]
    plain = with_prompt(_direct(config), layout=form.layout, reasoning="off")
    untrained = replace(base, builder=builder_for(plain.prompt, base.codec))
    trained = load_policy(trained_config, run=run, reporter=reporter)

    def write(policy: Policy, settings: Config, kinds: dict[str, list[Retrieved]]) -> dict[str, list[Generation]]:
        stream = generate(chain.from_iterable(kinds.values()), policy, settings, reporter=reporter, stage=policy.name)
        return {name: list(islice(stream, len(rows))) for name, rows in kinds.items()}

    bare = [widen(Retrieved, query, profile=[]) for query in own]
    best = [widen(Retrieved, query, profile=query.profile[: form.k]) for query in own]
    return write(untrained, plain, {"no_profile": bare, "untrained": best}) | write(
        trained, trained_config, {"trained": own, "swapped": others}
    )


def _summarise(generations: dict[str, list[Generation]], form: Form, config: Config) -> Demonstration:
    settings = EvalSettings(metrics=["rouge1", "rougeL", "format_rate"])
    rows = []
    for name, label in _ROWS.items():
        found = evaluate(generations[name], settings, seed=config.seed).metrics
        rouge1, rouge_l, form_rate = (found[metric] for metric in settings.metrics)
        assert rouge1 and rouge_l and form_rate  # every query of the corpus has a target
        rows.append(Row(label, rouge1, rouge_l, form_rate))
    pairs = list(zip(generations["untrained"], generations["trained"], strict=True))
    return Demonstration(
        rows,
        form,
        compare(generations["trained"], generations["untrained"], metric="rougeL", seed=config.seed).difference,
        compare(generations["trained"], generations["swapped"], metric="rougeL", seed=config.seed).difference,
        pairs[:: max(1, len(pairs) // _EXAMPLES)][:_EXAMPLES],
    )
