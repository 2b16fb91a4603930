"""`prlm train-reward`: contrastive pairs, then a reward model, then its test and gate."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterable, Sequence

from prlm_cli.core import jsonl
from prlm_cli.core.errors import DataError
from prlm_cli.core.records import PreferencePair, Query, Retrieved
from prlm_cli.core.reporting import Reporter, Silent
from prlm_cli.core.settings import Config
from prlm_cli.core.workspace import Run, Workspace, write_text
from prlm_cli.models.echo import EchoRule
from prlm_cli.models.scorer import Item, Scorer
from prlm_cli.pipeline.given_pairs import with_contrast
from prlm_cli.pipeline.held_out import Split, split_pairs
from prlm_cli.pipeline.layouts import resolve_prompt
from prlm_cli.pipeline.pair_scores import Part
from prlm_cli.pipeline.pairs import PAIRS, pairs_for
from prlm_cli.pipeline.reward_models import find_reward_model, load_reward_model, load_twin, new_reward_model, twin_of
from prlm_cli.pipeline.reward_quality import reward_quality
from prlm_cli.pipeline.reward_report import html_report
from prlm_cli.pipeline.runs import claim_run
from prlm_cli.pipeline.training_set import fingerprint, training_queries, user_hashes

_VALIDATION_SEED = 42  # of PrLM's released code


def train_reward(
    workspace: Workspace,
    config: Config,
    *,
    queries: Iterable[Query] | None = None,
    pairs: Sequence[PreferencePair] | None = None,
    name: str | None = None,
    resume: bool = True,
    reporter: Reporter | None = None,
) -> Run:
    """The finished run of a reward model, with its held-out accuracies and the verdict of its gate.

    Args:
        workspace: With an index.
        config: The resolved settings.
        queries: Instead of the index's training split.
        pairs: Instead of building them.
        name: Of the run.
        resume: Go on with an interrupted run of the same settings and data.
        reporter: Told about progress.

    Raises:
        DataError: If there is nothing to train on, no user is left to test on, or no pair has a contrast.
        Diverged: If the loss is not finite.
        MissingError: If a model cannot be had.
        SettingsError: If the settings do not go together, or the model cannot be given a score.
    """
    reporter = reporter or Silent()
    if pairs is not None:
        given = with_contrast(pairs, reporter)
        _check_users(given)
        split = split_pairs(given, config.reward)  # what is wrong with them is known before anything is written
        find_reward_model(config, reporter)
        run = _claim(workspace, resolve_prompt(workspace, [], config, reporter), given, name, resume, reporter)
        with workspace.write_lock(run.name):
            if not (run.folder / PAIRS).exists():
                jsonl.write(run.folder / PAIRS, given)  # for its diagnostics, to know whom it was trained on
            _train(run, split, config, reporter)
        return run
    with workspace.open_store() as store:
        training = training_queries(store, config, queries)
        _check_users(training)
        find_reward_model(config, reporter)  # before hours of writing answers
        config = resolve_prompt(workspace, training, config, reporter)
        run = _claim(workspace, config, training, name, resume, reporter)
        with workspace.write_lock(run.name):
            try:
                split = split_pairs(pairs_for(run, workspace, store, training, config, reporter), config.reward)
            except DataError:
                shutil.rmtree(run.folder)  # it could not be gone on with
                raise
            _train(run, split, config, reporter)
    return run


def _claim(
    workspace: Workspace,
    config: Config,
    data: Sequence[Retrieved | PreferencePair],
    name: str | None,
    resume: bool,
    reporter: Reporter,
) -> Run:
    return claim_run(
        workspace,
        "reward",
        name,
        config,
        fingerprint(data),
        resume=resume,
        reporter=reporter,
        trained_on=user_hashes(data),
    )


def _check_users(records: Iterable[Retrieved | PreferencePair]) -> None:
    if len({record.user_id for record in records}) < 2:
        raise DataError("a reward model needs two users: one to learn from, one to test on", hint="index more users")


def _train(run: Run, split: Split, config: Config, reporter: Reporter) -> None:
    training, validation = _validation_split(split.training, config.reward.validation_share)
    steps = _train_one(run, training, split, config, reporter)
    if config.reward.profile and config.reward.twin:
        twin = twin_of(run)
        twin.folder.mkdir(exist_ok=True, mode=0o700)
        _train_one(twin, training, split, config, reporter, blind=True)
    # What is tested is what was saved; and the base models of the trainings are gone.
    model = load_reward_model(run, reporter)
    quality = reward_quality(
        model,
        users=Part(split.heldout_users),
        queries=Part(split.heldout_queries),
        blind=load_twin(run, reporter),
        temperature=model.temperature,
        resamples=config.eval.bootstrap,
        seed=config.seed,
    )
    write_text(run.report, html_report(run.name, quality))
    metrics = quality.as_metrics()
    if validation:
        metrics["validation_accuracy"] = _mean_hit(_margins(model, validation))
    run.finish({"training_pairs": len(training), "steps": steps, **metrics})


def _train_one(
    run: Run, training: list[PreferencePair], split: Split, config: Config, reporter: Reporter, *, blind: bool = False
) -> int:
    """Trains the reward model or its blind twin, keeps it, and says in how many steps."""
    from prlm_cli.models.reward_model import fit_echo_weight, fit_temperature, save_temperature
    from prlm_cli.models.with_echo import WithEcho
    from prlm_cli.training.contrastive import train_contrastive

    model = new_reward_model(config, reporter, blind=blind)
    if config.reward.echo and model.sees_profile:
        model.network = WithEcho(model.network, fit_echo_weight(_margins(EchoRule(), training)))
    steps = train_contrastive(
        model,
        training,
        config.reward,
        seed=config.seed,
        checkpoints=run.checkpoints,
        stage=reporter.stage("blind twin" if blind else "reward model"),
        log=run.append_log,
    )
    model.network.save(run.adapter)
    # On held-out queries where there are any: the calibration on the held-out users is then an honest one.
    save_temperature(run.adapter, fit_temperature(_margins(model, split.heldout_queries or split.heldout_users)))
    return steps


def _validation_split(pairs: list[PreferencePair], share: float) -> tuple[list[PreferencePair], list[PreferencePair]]:
    """The pairs to train on and those to validate on, drawn by pairs as the paper does."""
    count = min(round(share * len(pairs)), len(pairs) - 1)
    chosen = set(random.Random(_VALIDATION_SEED).sample(range(len(pairs)), count))
    return [p for n, p in enumerate(pairs) if n not in chosen], [p for n, p in enumerate(pairs) if n in chosen]


def _margins(scorer: Scorer, pairs: Sequence[PreferencePair]) -> list[float]:
    """By how much each chosen answer scores above its rejected one."""
    items = [Item(pair.text, pair.profile, answer) for pair in pairs for answer in (pair.chosen, pair.rejected)]
    scores = scorer.scores(items)
    return [chosen - rejected for chosen, rejected in zip(scores[::2], scores[1::2], strict=True)]


def _mean_hit(margins: Sequence[float]) -> float:
    return sum(margin > 0 for margin in margins) / len(margins)
