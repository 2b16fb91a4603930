"""`prlm eval --reward-model`: the diagnostics of a finished reward model, on what it was not trained on."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from prlm_cli.core import jsonl
from prlm_cli.core.configuration import resolve
from prlm_cli.core.errors import DataError
from prlm_cli.core.records import PreferencePair, Retrieved
from prlm_cli.core.reporting import Reporter, Silent
from prlm_cli.core.settings import Config, RewardSettings
from prlm_cli.core.workspace import Run, Workspace
from prlm_cli.pipeline.best_of_n import with_samples
from prlm_cli.pipeline.completion_cache import completion_cache
from prlm_cli.pipeline.held_out import heldout_users, is_heldout_query
from prlm_cli.pipeline.pair_scores import Part
from prlm_cli.pipeline.pairs import PAIRS, pair_policy
from prlm_cli.pipeline.reward_models import load_reward_model, load_twin
from prlm_cli.pipeline.reward_quality import RewardQuality, reward_quality
from prlm_cli.pipeline.training_set import training_queries

Record = TypeVar("Record", PreferencePair, Retrieved)


def reward_run(workspace: Workspace, name: str | None) -> Run:
    """The finished reward model of that name; without a name the newest.

    Raises:
        DataError: If there is none.
    """
    if name:
        return workspace.finished_run(name, "reward")
    if run := workspace.latest("reward"):
        return run
    raise DataError(f"no reward model in {workspace.folder}", hint="run `prlm train-reward` first")


class _HeldOut(NamedTuple):
    """What a model was not trained on: pairs, and the queries of the index, where these can be told apart."""

    pairs: Sequence[PreferencePair]
    queries: Sequence[Retrieved] = ()


def evaluate_reward(
    workspace: Workspace,
    run: Run,
    config: Config,
    *,
    pairs: Sequence[PreferencePair] | None = None,
    reporter: Reporter | None = None,
) -> RewardQuality:
    """The diagnostics of a run's reward model. The run stays as it is; completions are kept in the workspace's cache.

    Args:
        workspace: Where the run is; its index is read only where completions are drawn.
        run: A finished reward model.
        config: The run's settings, with others for the diagnostics.
        pairs: To judge it on, instead of the run's own. In both it is judged on users that it was not trained on, and
            on the held-out queries of the others.
        reporter: Told about progress.

    Raises:
        DataError: If the run has kept no pairs, or none of the pairs is held out.
    """
    reporter = reporter or Silent()
    trained = resolve(config_file=run.folder / "config.toml")
    parts = [Part(part.pairs) for part in _held_out(run, trained.reward, pairs, [])]
    if config.diagnostics.samples and any(pair.target for part in parts for pair in part.pairs):
        parts = _sampled(workspace, run, trained, config, pairs, reporter)
    model = load_reward_model(run, reporter)  # only now: one model in memory at a time
    return reward_quality(
        model,
        users=parts[0],
        queries=parts[1],
        blind=load_twin(run, reporter),
        temperature=model.temperature,
        resamples=config.eval.bootstrap,
        seed=config.seed,
    )


def _sampled(
    workspace: Workspace,
    run: Run,
    trained: Config,
    config: Config,
    pairs: Sequence[PreferencePair] | None,
    reporter: Reporter,
) -> list[Part]:
    """The parts with completions by the policy that wrote the answers of the run's pairs.

    They are drawn for queries of the index as well, of which only some have pairs; not where other pairs were brought.
    """
    training = _training_queries(workspace, trained)
    policy = pair_policy(workspace, training, trained, reporter)
    held_out = _held_out(run, trained.reward, pairs, training if pairs is None else [])
    with completion_cache(workspace, policy, reporter) as cache:
        return [with_samples(part.pairs, policy, config, reporter, cache, part.queries) for part in held_out]


def _training_queries(workspace: Workspace, trained: Config) -> list[Retrieved]:
    """Those of the index; none where it has none, as where pairs were brought to train on."""
    if workspace.index.exists():
        with workspace.open_store() as store, contextlib.suppress(DataError):
            return training_queries(store, trained)
    return []


def _held_out(
    run: Run, settings: RewardSettings, given: Sequence[PreferencePair] | None, queries: Sequence[Retrieved]
) -> tuple[_HeldOut, _HeldOut]:
    """Of users that the model was not trained on, and held-out ones of the others."""
    path = run.folder / PAIRS
    if not path.exists():
        # Without them nobody knows which users it was trained on.
        raise DataError(f"run '{run.name}' has kept no pairs", hint="train the reward model again")
    own = list(jsonl.read(path, PreferencePair))
    known = {pair.user_id for pair in own}
    trained_on = known - heldout_users(known, settings.heldout_share)

    def parts(records: Sequence[Record]) -> tuple[list[Record], list[Record]]:
        unseen = [record for record in records if record.user_id not in trained_on]
        others = (record for record in records if record.user_id in trained_on)
        return unseen, [record for record in others if is_heldout_query(record.query_id, settings.heldout_queries)]

    users, others = zip(parts(own if given is None else given), parts(queries), strict=True)
    return _HeldOut(*users), _HeldOut(*others)
