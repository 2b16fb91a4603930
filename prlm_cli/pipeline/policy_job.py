"""What a policy is trained on and with: settled before the training, by one process for all."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from importlib.util import find_spec
from itertools import islice
from typing import NamedTuple

from msgspec import structs

from prlm_cli.core import ranks
from prlm_cli.core.errors import DataError, MissingError, RefusedError, SettingsError, did_you_mean
from prlm_cli.core.records import Query, Retrieved
from prlm_cli.core.reporting import Reporter
from prlm_cli.core.settings import Config, PolicySettings
from prlm_cli.core.store import Store
from prlm_cli.core.workspace import Run, Workspace
from prlm_cli.pipeline.author_titles import AuthorTitles, read_pool
from prlm_cli.pipeline.layouts import resolve_prompt
from prlm_cli.pipeline.other_answers import OtherAnswers
from prlm_cli.pipeline.profile_noise import ProfileNoise, read_others
from prlm_cli.pipeline.queries import stored_queries
from prlm_cli.pipeline.retrieve import retrieve
from prlm_cli.pipeline.runs import claim_run
from prlm_cli.pipeline.stand_ins import StandIns
from prlm_cli.pipeline.training_set import fingerprint, training_queries, user_hash, user_hashes
from prlm_cli.pipeline.warm_start import reasons_by_itself, warm_start, warm_start_kind
from prlm_cli.pipeline.watching import check_trackers
from prlm_cli.rewards.named import reward_named
from prlm_cli.training.order import check_enough

NO_REWARD_MODEL = "none"


class Job(NamedTuple):
    """What is trained, on what; `config` has no `auto` left.

    `swapped` are the held-out queries with another user's records, None where nobody has any; empty where it is not
    asked for.
    """

    run: Run
    config: Config
    training: list[Retrieved]
    held_out: list[Retrieved]
    swapped: list[Retrieved | None]
    titles: AuthorTitles | None
    other_answer: OtherAnswers | None
    noise: ProfileNoise | None
    start: Run | None
    reward_run: Run | None


def checked(config: Config) -> Config:
    """The configuration, once it is clear that its settings go together, before anything is read or loaded.

    Raises:
        MissingError: If the package of a tracker, or of vLLM where it is to write the rollouts, is not there.
        SettingsError: If the settings do not go together, or name an unknown reward.
    """
    config = _with_contrast(config)
    _check_rewards(config.policy)
    check_trackers(config.policy.trackers)
    _check_rollouts(config)
    _check_processes(config.policy)
    _check_shards(config)
    return config


def settle(
    workspace: Workspace,
    config: Config,
    queries: Iterable[Query] | None,
    name: str | None,
    *,
    resume: bool,
    force: bool,
    reporter: Reporter,
    held: ExitStack,
) -> Job:
    """All that comes before the training: the run is claimed, its lock held, its start made.

    Args:
        workspace: With an index.
        config: From `checked`.
        queries: Instead of the index's training split.
        name: Of the run.
        resume: Go on with an interrupted run of the same settings and data.
        force: Use a named reward model although its gate is closed, and replace a finished run of that name.
        reporter: Told about progress.
        held: Keeps the lock.

    Raises:
        DataError: If there is nothing to train on, a named run does not exist, or another user is needed and there is
            none.
        RefusedError: If the named reward model's gate is closed.
        SettingsError: If the settings do not go together, or ask for more queries a step than there are.
    """
    start_run = _start_run(workspace, config)
    reward_run = _reward_run(workspace, config, force=force, reporter=reporter)
    with workspace.open_store() as store:
        training = training_queries(store, config, queries)
        check_enough(len({query.query_id for query in training}), config.policy.prompts_per_step)
        config = resolve_prompt(workspace, training, config, reporter)
        held_out = _held_out(store, config)
        if config.policy.early_stop and not held_out:
            raise SettingsError(
                "policy.early_stop: no dev query to judge by", hint="index some, or raise policy.eval_queries"
            )
        swapped = _swapped(store, held_out, config)
        titles = _author_titles(store, training, config)
        other_answer = OtherAnswers(training, store.tokenizer) if config.policy.rewards.get("contrast") else None
        noise = _profile_noise(store, training, config)
    config = _without_unused_rewards(config, reward_run)
    facts: dict[str, object] = {
        "reward_model": reward_run.name if reward_run else None,
        "trained_on": user_hashes(training),
    }
    if swapped:  # whose query was shown whose records
        users = [(query.user_id, query.profile_user_id) for query in swapped if query]
        facts["swapped"] = [[user_hash(user) for user in pair if user] for pair in users]
    run = claim_run(
        workspace, "policy", name, config, fingerprint(training), resume=resume, reporter=reporter, force=force, **facts
    )
    held.enter_context(workspace.write_lock(run.name))
    start = start_run or _warm_start(workspace, training, config, reporter)
    return Job(run, config, training, held_out, swapped, titles, other_answer, noise, start, reward_run)


def _with_contrast(config: Config) -> Config:
    """The configuration in which the reward `contrast` has a weight if other users' answers may be read, and only then.

    Where none is set it is that of the overlap, and an answer that fits both users alike is worth nothing.
    """
    weights = config.policy.rewards
    if config.policy.contrast == "none":
        if weights.get("contrast"):
            raise SettingsError("the reward 'contrast' reads other users' answers", hint="ask: --contrast swapped")
        return config
    weights = {"contrast": weights.get("overlap", 1.0), **weights}
    return structs.replace(config, policy=structs.replace(config.policy, rewards=weights))


def _check_rewards(settings: PolicySettings) -> None:
    """Makes sure that there are such rewards, before anything is trained or a model is loaded."""
    for name in settings.rewards:
        reward_named(name)
    for name in settings.normalise:
        if name not in settings.rewards:
            hint = did_you_mean(name, settings.rewards)
            raise SettingsError(f"policy.normalise names '{name}', which policy.rewards does not", hint=hint)


def _check_rollouts(config: Config) -> None:
    """Makes sure that vLLM is there where it is to write the rollouts."""
    if config.policy.rollouts != "vllm":
        return
    if config.model.qlora:
        raise SettingsError("policy.rollouts=vllm needs a 16-bit base", hint="leave out one of the two")
    if config.policy.zero_variance == "resample":
        raise SettingsError("vLLM draws no group again", hint="policy.zero_variance=skip, or policy.rollouts=hf")
    if not find_spec("vllm"):
        raise MissingError("policy.rollouts=vllm needs the package vllm", hint="pip install 'prlm[vllm]'")


def _check_processes(settings: PolicySettings) -> None:
    """Makes sure that several processes can share a step."""
    prompts, processes = settings.prompts_per_step, ranks.world_size()
    if prompts % processes:
        raise SettingsError(
            f"policy.prompts_per_step={prompts} cannot be split over {processes} processes",
            hint=f"use a multiple of {processes}",
        )


def _check_shards(config: Config) -> None:
    """Makes sure that the base can be in parts, where it is to be."""
    if ranks.asks_for_fsdp():
        raise SettingsError(
            "the launcher's FSDP would split what is trained", hint="start without it, and set policy.shard_base=true"
        )
    if not config.policy.shard_base:
        return
    if ranks.world_size() == 1:
        raise SettingsError("policy.shard_base needs several processes", hint="start them with `accelerate launch`")
    if config.model.qlora:
        raise SettingsError("policy.shard_base needs a 16-bit base", hint="leave out --qlora, or policy.shard_base")
    if config.policy.rollouts == "vllm":
        raise SettingsError("vLLM reads no base in parts", hint="policy.rollouts=hf, or leave out policy.shard_base")


def _start_run(workspace: Workspace, config: Config) -> Run | None:
    if not config.policy.start_from:
        return None
    if config.warm_start.kind not in ("auto", "none"):
        raise SettingsError("--start-from and a warm start do not go together", hint="drop one of them")
    return workspace.finished_run(config.policy.start_from, "policy")


def _reward_run(workspace: Workspace, config: Config, *, force: bool, reporter: Reporter) -> Run | None:
    """The reward model to use: the named one if its gate is open, else the newest; None where none is to count."""
    named = config.policy.reward_model
    if named == NO_REWARD_MODEL or not config.policy.rewards.get("personalization"):
        return None
    run = workspace.finished_run(named, "reward") if named else workspace.latest("reward")
    if run is None:
        reporter.note("no reward model yet: going on without (run `prlm train-reward` to have one)")
        return None
    if run.metrics.get("gate") == "open" or force:
        return run
    if named:
        raise RefusedError(
            f"reward model '{named}' did not pass its gate", hint="see `prlm runs show`; --force uses it"
        )
    reporter.note(f"reward model {run.name} did not pass its gate: its weight is 0")
    return None


def _without_unused_rewards(config: Config, reward_run: Run | None) -> Config:
    weights = {name: weight for name, weight in config.policy.rewards.items() if weight}
    if reward_run is None:
        weights.pop("personalization", None)
    normalise = {name: scale for name, scale in config.policy.normalise.items() if name in weights}
    model = reward_run.name if reward_run else NO_REWARD_MODEL
    policy = structs.replace(config.policy, rewards=weights, normalise=normalise, reward_model=model)
    return structs.replace(config, policy=policy)


def _author_titles(store: Store, training: list[Retrieved], config: Config) -> AuthorTitles | None:
    """Reads other users' titles only where a classifier is asked for."""
    if not config.policy.rewards.get("author"):
        return None
    pool = read_pool(store, (query.user_id for query in training), seed=config.seed)
    return AuthorTitles(store, training, pool, config.retrieval, seed=config.seed)


def _profile_noise(store: Store, training: list[Retrieved], config: Config) -> ProfileNoise | None:
    share = config.policy.profile_noise
    if not share:
        return None
    return ProfileNoise(share, read_others(store, training, config.retrieval, seed=config.seed), config.seed)


def _held_out(store: Store, config: Config) -> list[Retrieved]:
    queries = islice((q for q in stored_queries(store, "dev") if q.target), config.policy.eval_queries)
    return list(retrieve(store, queries, config.retrieval, prompt=config.prompt, seed=config.seed))


def _swapped(store: Store, held_out: list[Retrieved], config: Config) -> list[Retrieved | None]:
    """Reads another user's records for each held-out query only where that is asked for."""
    if not config.policy.eval_swapped:
        return []
    users = {query.user_id for query in held_out}
    if len(users) < 2:
        raise SettingsError(
            "policy.eval_swapped: the held-out queries are not of two users",
            hint="index more, or raise policy.eval_queries",
        )
    stand_ins = StandIns(store, [users], config)
    found = [stand_ins.at_random(query) for query in held_out]
    if not any(found):
        raise DataError("policy.eval_swapped: no other user has records for a held-out query", hint="index more users")
    return found


def _warm_start(workspace: Workspace, training: list[Retrieved], config: Config, reporter: Reporter) -> Run | None:
    kind = warm_start_kind(config, reasons_by_itself=reasons_by_itself(config, reporter))
    return None if kind == "none" else warm_start(workspace, training, config, kind, reporter)
