"""`prlm eval --reward-model`: the diagnostics of a finished reward model, on what it was not trained on."""

from __future__ import annotations

from collections.abc import Sequence

from prlm_cli.core import jsonl
from prlm_cli.core.errors import DataError
from prlm_cli.core.records import PreferencePair
from prlm_cli.core.reporting import Reporter, Silent
from prlm_cli.core.settings import Config, RewardSettings, resolve
from prlm_cli.core.workspace import Run, Workspace
from prlm_cli.pipeline.best_of_n import with_samples
from prlm_cli.pipeline.completion_cache import completion_cache
from prlm_cli.pipeline.held_out import heldout_users, is_heldout_query, split_pairs
from prlm_cli.pipeline.pair_scores import Part
from prlm_cli.pipeline.pairs import PAIRS, pair_policy
from prlm_cli.pipeline.reward_models import load_reward_model, load_twin
from prlm_cli.pipeline.reward_quality import RewardQuality, reward_quality
from prlm_cli.pipeline.training_set import training_queries


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
        workspace: Where the run is; its index is read only where completions are drawn from a warm start.
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
    users, queries = _held_out(run, trained.reward, pairs)
    of_users, of_queries = Part(users), Part(queries)
    if config.diagnostics.samples and any(pair.target for pair in (*users, *queries)):
        of_users, of_queries = _sampled(workspace, trained, config, reporter, users, queries)
    model = load_reward_model(run, reporter)  # only now: one model in memory at a time
    return reward_quality(
        model,
        users=of_users,
        queries=of_queries,
        blind=load_twin(run, reporter),
        temperature=model.temperature,
        resamples=config.eval.bootstrap,
        seed=config.seed,
    )


def _sampled(
    workspace: Workspace, trained: Config, config: Config, reporter: Reporter, *parts: Sequence[PreferencePair]
) -> list[Part]:
    """The parts with completions by the policy that wrote the answers of the run's pairs."""
    training = []
    if trained.pairs.policy == "warm-start":
        with workspace.open_store() as store:
            training = training_queries(store, trained)
    policy = pair_policy(workspace, training, trained, reporter)
    with completion_cache(workspace, policy, reporter) as cache:
        return [with_samples(part, policy, config, reporter, cache) for part in parts]


def _held_out(
    run: Run, settings: RewardSettings, given: Sequence[PreferencePair] | None
) -> tuple[Sequence[PreferencePair], Sequence[PreferencePair]]:
    path = run.folder / PAIRS
    if not path.exists():
        # Without them nobody knows which users it was trained on.
        raise DataError(f"run '{run.name}' has kept no pairs", hint="train the reward model again")
    own = list(jsonl.read(path, PreferencePair))
    if given is None:
        split = split_pairs(own, settings)
        return split.heldout_users, split.heldout_queries
    known = {pair.user_id for pair in own}
    trained_on = known - heldout_users(known, settings.heldout_share)
    unseen = [pair for pair in given if pair.user_id not in trained_on]
    others = (pair for pair in given if pair.user_id in trained_on)
    return unseen, [pair for pair in others if is_heldout_query(pair.query_id, settings.heldout_queries)]
