"""`prlm train-reward`: contrastive pairs, then a reward model, then its test and gate."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

from prlm_cli.core.errors import DataError
from prlm_cli.core.records import PreferencePair, Query
from prlm_cli.core.reporting import Reporter, Silent
from prlm_cli.core.settings import Config
from prlm_cli.core.workspace import Run, Workspace
from prlm_cli.metrics.intervals import share_interval
from prlm_cli.models.reward_model import RewardModel
from prlm_cli.pipeline.layouts import resolve_prompt
from prlm_cli.pipeline.pairs import pairs_for
from prlm_cli.pipeline.runs import claim_run
from prlm_cli.pipeline.training_set import fingerprint, training_queries, user_hashes


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
        DataError: If there is nothing to train on, or no user is left to test on.
    """
    reporter = reporter or Silent()
    with workspace.open_store() as store:
        training = training_queries(store, config, queries)
        if len({item.user_id for item in (training if pairs is None else pairs)}) < 2:
            raise DataError(
                "a reward model needs two users: one to learn from, one to test on", hint="index more users"
            )
        config = resolve_prompt(workspace, training, config, reporter)
        run = claim_run(
            workspace,
            "reward",
            name,
            config,
            fingerprint(training if pairs is None else pairs),
            resume=resume,
            reporter=reporter,
            trained_on=user_hashes([*training, *(pairs or [])]),
        )
        with workspace.write_lock(run.name):
            built = list(pairs) if pairs is not None else pairs_for(run, workspace, store, training, config, reporter)
            _train(run, built, config, reporter)
    return run


def load_reward_model(run: Run, reporter: Reporter) -> RewardModel:
    """The reward model of a finished run."""
    from prlm_cli.core.settings import resolve
    from prlm_cli.models.adapters import load_adapter
    from prlm_cli.models.reward_model import load_temperature

    config = resolve(config_file=run.folder / "config.toml")
    model = _new_model(config, reporter)
    model.model = load_adapter(model.model, run.adapter, trainable=False)
    model.temperature = load_temperature(run.adapter)
    return model


def heldout_users(user_ids: Iterable[str], share: float) -> set[str]:
    """The users kept for the test: those whose id hashes below the share, so the same ones in every run.

    At least one of them, and at least one of the others, as long as there are two: few users may hash all to one side.
    """
    ranked = sorted((_fraction(user_id), user_id) for user_id in set(user_ids))
    count = sum(fraction < share for fraction, _ in ranked)
    return {user_id for _, user_id in ranked[: max(1, min(count, len(ranked) - 1))]} if len(ranked) > 1 else set()


def _fraction(user_id: str) -> float:
    """A number in [0, 1) that depends on the id alone."""
    return int.from_bytes(hashlib.blake2b(user_id.encode(), digest_size=4).digest(), "little") / 2**32


def _new_model(config: Config, reporter: Reporter) -> RewardModel:
    from prlm_cli.core.prompts import PromptBuilder
    from prlm_cli.models.loading import load_base, load_tokenizer, resolve_model
    from prlm_cli.models.tokenization import TokenizerCodec
    from prlm_cli.tasks import TASKS

    folder = resolve_model(config.model.name, reporter)
    tokenizer = load_tokenizer(folder)
    task = TASKS[config.prompt.task]
    builder = PromptBuilder(task, "completion", False, config.reward.max_tokens, TokenizerCodec(tokenizer))
    base = load_base(folder, config.model, scores=True, seed=config.seed)
    return RewardModel(base, tokenizer, builder, sees_profile=config.reward.profile)


def _train(run: Run, pairs: Sequence[PreferencePair], config: Config, reporter: Reporter) -> None:
    from prlm_cli.models.adapters import add_adapter, save_adapter
    from prlm_cli.models.reward_model import fit_temperature, save_temperature
    from prlm_cli.training.contrastive import train_contrastive

    held_out = heldout_users((pair.user_id for pair in pairs), config.reward.heldout_share)
    test = [pair for pair in pairs if pair.user_id in held_out]
    training = [pair for pair in pairs if pair.user_id not in held_out]
    if not held_out:
        raise DataError("all pairs are of one user; another one is needed to test on", hint="index more users")
    model = _new_model(config, reporter)
    model.model = add_adapter(model.model, config.model, seed=config.seed, scores=True)
    train_contrastive(
        model,
        training,
        config.reward,
        seed=config.seed,
        checkpoints=run.checkpoints,
        stage=reporter.stage("reward model"),
        log=run.append_log,
    )
    metrics, margins = diagnose(model, test)
    save_adapter(model.model, run.adapter)
    save_temperature(run.adapter, fit_temperature(margins))
    run.finish({"training_pairs": len(training), **metrics})


def diagnose(model: RewardModel, pairs: Sequence[PreferencePair]) -> tuple[dict[str, Any], list[float]]:
    """The accuracies on held-out pairs with their gate, and the margins.

    The gate is open if the interaction `s(D,y) - s(D,y') - s(D',y) + s(D',y')` of own records D and answer y with the
    swapped D' and y' is positive for more than half of the pairs, by its 95 % interval (method reference 3.1). What D
    says of the topic and how good y is cancel in it; only their fit is left. A model that does not see the profile has
    0 there. Where no pair is swapped there is nothing to test it on, and the gate stays closed.
    """
    swapped = [pair for pair in pairs if pair.kind == "swapped"]
    own = [(pair.text, pair.profile, answer) for pair in pairs for answer in (pair.chosen, pair.rejected)]
    others = [(pair.text, pair.swapped_profile, answer) for pair in swapped for answer in (pair.chosen, pair.rejected)]
    scores = model.scores([*own, *others])  # at once, so that equal inputs have equal scores
    chosen, rejected = scores[: len(own) : 2], scores[1 : len(own) : 2]
    there, other = scores[len(own) :: 2], scores[len(own) + 1 :: 2]
    margins = [c - r for c, r in zip(chosen, rejected, strict=True)]
    metrics: dict[str, Any] = {"heldout_users": len({pair.user_id for pair in pairs}), "accuracy": {}}
    for kind in sorted({pair.kind for pair in pairs}):
        of_kind = [(pair.user_id, margin) for pair, margin in zip(pairs, margins, strict=True) if pair.kind == kind]
        metrics["accuracy"][kind] = _share_positive(of_kind)
    crossed = [(pair, margin) for pair, margin in zip(pairs, margins, strict=True) if pair.kind == "swapped"]
    deltas = [(pair.user_id, m - (t - o)) for (pair, m), t, o in zip(crossed, there, other, strict=True)]
    metrics["interaction"] = _share_positive(deltas) if deltas else None
    metrics["gate"] = "open" if deltas and metrics["interaction"]["low"] > 0.5 else "closed"
    return metrics, margins


def _share_positive(margins: Sequence[tuple[str, float]]) -> dict[str, Any]:
    found = share_interval([margin > 0 for _, margin in margins], [user_id for user_id, _ in margins])
    return {"mean": found.mean, "low": found.low, "high": found.high, "n": found.n, "users": found.users}
