"""`prlm run`: the stages of a recipe in order, without those that are done; or a stored run once more."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from prlm_cli.core.configuration import read_recipe, to_toml
from prlm_cli.core.errors import DataError, SettingsError, StorageError, did_you_mean
from prlm_cli.core.reporting import Reporter
from prlm_cli.core.settings import Config
from prlm_cli.core.workspace import Run, Workspace, read_json, write_text
from prlm_cli.pipeline.evaluate import Evaluation, evaluate
from prlm_cli.pipeline.generate import generate
from prlm_cli.pipeline.policies import choose_policy
from prlm_cli.pipeline.sources import retrieved_from
from prlm_cli.pipeline.train_policy import train_policy
from prlm_cli.pipeline.train_reward import train_reward
from prlm_cli.pipeline.training_set import fingerprint, training_queries


@dataclass(frozen=True)
class Recipe:
    """Settings and the stages to go through; a stored run is done again although it is done."""

    path: Path
    config: Config
    stages: list[str]
    is_stored_run: bool = False


@dataclass(frozen=True)
class Done:
    """A stage that is done: by which run, whether just now; or what the test queries scored."""

    stage: str
    run: str | None = None
    is_new: bool = True
    evaluation: Evaluation | None = None


def load_recipe(path: Path, first: str | None = None) -> Recipe:
    """The recipe in a file, or the configuration of a stored run with the stage that made it.

    Args:
        path: TOML.
        first: Leave out the stages before this one.

    Raises:
        SettingsError: If a setting is unknown or wrong, or the recipe has no such stage.
    """
    config, stages = read_recipe(path)
    state = path.parent / "state.json"
    is_stored_run = path.name == "config.toml" and state.exists()
    if is_stored_run:
        stages = ["train-reward" if Run(path.parent).state["kind"] == "reward" else "train-policy"]
    if first is not None:
        if first not in stages:
            raise SettingsError(f"--from {first}: {path} has no such stage", hint=did_you_mean(first, stages))
        stages = stages[stages.index(first) :]
    return Recipe(path, config, stages, is_stored_run)


def run(
    workspace: Workspace,
    recipe: Recipe,
    *,
    again: bool = False,
    reporter: Reporter,
    on_done: Callable[[Done], None] | None = None,
) -> list[Done]:
    """Goes through the stages of a recipe; a training that was broken off goes on.

    Args:
        workspace: With an index.
        recipe: From `load_recipe`.
        again: Do also what is done.
        reporter: Told about progress.
        on_done: Called after each stage.

    Raises:
        PrlmError: What the stages raise.
    """

    @cache
    def training_set() -> str:
        with workspace.open_store() as store:
            return fingerprint(training_queries(store, recipe.config))

    results = []
    for stage in recipe.stages:
        done = None if again or recipe.is_stored_run else _done_before(workspace, recipe, stage, training_set, reporter)
        results.append(done or _do(workspace, recipe, stage, reporter))
        if on_done:
            on_done(results[-1])
    return results


def _do(workspace: Workspace, recipe: Recipe, stage: str, reporter: Reporter) -> Done:
    if stage == "eval":
        return Done(stage, evaluation=_evaluate(workspace, recipe, reporter))
    train = train_reward if stage == "train-reward" else train_policy
    made: Run = train(workspace, recipe.config, reporter=reporter)
    if not recipe.is_stored_run:
        write_text(_marks(workspace), json.dumps(_marked(workspace) | {_key(recipe, stage): made.name}) + "\n")
    return Done(stage, made.name)


def _evaluate(workspace: Workspace, recipe: Recipe, reporter: Reporter) -> Evaluation:
    """The test queries answered by the recipe's policy, or the newest; the answers are not kept."""
    trained = _run_of(workspace, recipe, "train-policy")
    chosen = choose_policy(workspace, trained.name if trained else None, lambda base: base or recipe.config, reporter)
    queries = retrieved_from(workspace, chosen.config, path=None, split="test", user_id=None, text=None)
    answers = generate(queries, chosen.load(reporter), chosen.config, reporter=reporter)
    return evaluate(answers, recipe.config.eval, seed=recipe.config.seed)


def _done_before(
    workspace: Workspace, recipe: Recipe, stage: str, training_set: Callable[[], str], reporter: Reporter
) -> Done | None:
    """The finished run of a stage with the same settings on the same training set."""
    found = _run_of(workspace, recipe, stage)
    if not found:
        return None
    if found.state.get("data") != training_set():
        reporter.note(f"{stage}: what {found.name} was trained on has changed in the index")
        return None
    return Done(stage, found.name, is_new=False)


def _run_of(workspace: Workspace, recipe: Recipe, stage: str) -> Run | None:
    """The newest finished run of a stage with the same settings, if it is still there."""
    name = _marked(workspace).get(_key(recipe, stage))
    try:
        found = workspace.run(name) if name else None
        return found if found and found.is_finished else None
    except (DataError, StorageError):  # removed, or damaged
        return None


def _key(recipe: Recipe, stage: str) -> str:
    """A stage with all settings that it and the stages before it have."""
    return f"{stage} {hashlib.blake2b(to_toml(recipe.config).encode(), digest_size=8).hexdigest()}"


def _marks(workspace: Workspace) -> Path:
    return workspace.cache / "recipes.json"


def _marked(workspace: Workspace) -> dict[str, Any]:
    """Stage and settings -> the run that did it; nothing where the file is lost."""
    try:
        return read_json(_marks(workspace))
    except StorageError:
        return {}
