"""`prlm train-policy`: a warm start, then GRPO, judged on held-out queries while it runs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

from msgspec import structs

from prlm_cli.core import ranks
from prlm_cli.core.errors import MissingError, RefusedError, SettingsError, did_you_mean
from prlm_cli.core.records import Query, Retrieved
from prlm_cli.core.reporting import Reporter, Silent
from prlm_cli.core.settings import Config, PolicySettings
from prlm_cli.core.store import Store
from prlm_cli.core.workspace import Run, Workspace, read_json, write_text
from prlm_cli.metrics.rouge import rouge
from prlm_cli.models.reward_model import RewardModel
from prlm_cli.pipeline.author_titles import AuthorTitles, read_pool
from prlm_cli.pipeline.generate import generate
from prlm_cli.pipeline.layouts import resolve_prompt
from prlm_cli.pipeline.other_answers import OtherAnswers
from prlm_cli.pipeline.policies import Policy, check_prompts, load_policy
from prlm_cli.pipeline.policy_report import html_report
from prlm_cli.pipeline.profile_noise import ProfileNoise, read_others
from prlm_cli.pipeline.queries import stored_queries
from prlm_cli.pipeline.retrieve import retrieve
from prlm_cli.pipeline.reward_models import Base, load_reward_model
from prlm_cli.pipeline.run_log import read_log
from prlm_cli.pipeline.runs import claim_run
from prlm_cli.pipeline.samples import SAMPLED_QUERIES, write_samples
from prlm_cli.pipeline.training_set import fingerprint, training_queries, user_hashes
from prlm_cli.pipeline.warm_start import reasons_by_itself, warm_start, warm_start_kind
from prlm_cli.pipeline.watching import Watching, check_trackers, measures
from prlm_cli.rewards import Reward, RewardContext
from prlm_cli.rewards.named import reward_named
from prlm_cli.training.order import check_enough

NO_REWARD_MODEL = "none"


class Job(NamedTuple):
    """What is trained, on what; `config` has no `auto` left."""

    run: Run
    config: Config
    training: list[Retrieved]
    held_out: list[Retrieved]
    titles: AuthorTitles | None
    other_answer: OtherAnswers | None
    noise: ProfileNoise | None
    start: Run | None
    reward_run: Run | None


def train_policy(
    workspace: Workspace,
    config: Config,
    *,
    queries: Iterable[Query] | None = None,
    name: str | None = None,
    resume: bool = True,
    force: bool = False,
    reporter: Reporter | None = None,
) -> Run:
    """The finished run of a policy.

    Where a launcher started several processes, all call this with the same arguments. The first of them alone reads,
    makes the warm start and reports; they split each step between them, judge the policy alike, and the first one's
    files are the run's.

    Args:
        workspace: With an index.
        config: The resolved settings.
        queries: Instead of the index's training split.
        name: Of the run.
        resume: Go on with an interrupted run of the same settings and data.
        force: Use a named reward model although its gate is closed, and replace a finished run of that name.
        reporter: Told about progress.

    Raises:
        DataError: If there is nothing to train on, a named run does not exist, or another user is needed and there is
            none.
        MissingError: If the package of a tracker, or of vLLM where it is to write the rollouts, is not there.
        RefusedError: If the named reward model's gate is closed.
        SettingsError: If the settings do not go together, name an unknown reward, or ask for more queries a step than
            there are.
    """
    reporter = reporter if reporter and ranks.is_main() else Silent()
    config = _with_contrast(config)
    _check_rewards(config.policy)
    check_trackers(config.policy.trackers)
    _check_rollouts(config)
    _check_processes(config.policy)
    with ExitStack() as held:

        def settle() -> Job:
            return _settle(workspace, config, queries, name, resume=resume, force=force, reporter=reporter, held=held)

        job = _settled_by_main(settle) if ranks.world_size() > 1 else settle()
        policy = load_policy(job.config, run=job.start, trainable=True, reporter=reporter)
        check_prompts(job.start, policy.builder)
        run = job.run if ranks.is_main() else _copy_of(job.run, held.enter_context(workspace.scratch()))
        _train(run, policy, job, _context(job, policy, reporter), reporter)
    if ranks.world_size() > 1:
        _disconnect()
    return job.run


def _settle(
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
    """All that comes before the training: the run is claimed, its lock held, its start made."""
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
        titles = _author_titles(store, training, config)
        other_answer = OtherAnswers(training, store.tokenizer) if config.policy.rewards.get("contrast") else None
        noise = _profile_noise(store, training, config)
    config = _without_unused_rewards(config, reward_run)
    facts = {
        "reward_model": reward_run.name if reward_run else None,
        "trained_on": user_hashes(training),
    }
    run = claim_run(
        workspace, "policy", name, config, fingerprint(training), resume=resume, reporter=reporter, force=force, **facts
    )
    held.enter_context(workspace.write_lock(run.name))
    start = start_run or _warm_start(workspace, training, config, reporter)
    return Job(run, config, training, held_out, titles, other_answer, noise, start, reward_run)


def _settled_by_main(settle: Callable[[], Job]) -> Job:
    from prlm_cli.training.collectives import from_main

    return from_main(settle)


def _copy_of(run: Run, scratch: Path) -> Run:
    """A copy of the run in a folder that goes: all processes compute the same, and one of them keeps it."""
    shutil.copytree(run.folder, scratch / run.name, ignore=shutil.ignore_patterns(run.checkpoints.name))
    copy = Run(scratch / run.name)
    copy.checkpoints = run.checkpoints  # to which each process adds its part
    return copy


def _disconnect() -> None:
    from prlm_cli.training.collectives import disconnect

    disconnect()


def _train(run: Run, policy: Policy, job: Job, context: RewardContext, reporter: Reporter) -> None:
    from prlm_cli.models.adapters import save_adapter
    from prlm_cli.training import shared_prefix
    from prlm_cli.training.callbacks import NotFinite
    from prlm_cli.training.checkpoints import newest_step
    from prlm_cli.training.grpo import Rollout, train_grpo
    from prlm_cli.training.trackers import tracker_callbacks

    config, noise = job.config, job.noise
    if reason := shared_prefix.why_not(policy.model):
        reporter.note(f"the prompt is computed once a completion, not once a group: {reason}")

    def rollout(query: Retrieved) -> Rollout:
        return Rollout(policy.builder.build(query.text, query.profile, query.card).ids, query)

    def varied(known: Rollout, time: int) -> Rollout:
        assert noise
        query = noise(known.query, time)
        return known if query is known.query else rollout(query)

    run.rewind_log(newest_step(run.checkpoints))
    best, watching = Best(run), Watching(run, config, reporter)

    def evaluate(step: int) -> None:
        if job.held_out:
            score = _mean_overlap(policy, job.held_out, config)
            best.offer(step, score, lambda folder: save_adapter(policy.model, folder))
            watching.judged(step, score)
        if config.policy.samples:
            write_samples(run, step, policy, job.training[:SAMPLED_QUERIES], config)

    try:
        resumed_from = train_grpo(
            policy.model,
            policy.tokenizer,
            [rollout(query) for query in job.training],
            _rewards(config, context),
            config.policy,
            stop_ids=policy.stop_ids,
            max_new_tokens=config.policy.max_new_tokens or policy.max_new_tokens,
            seed=config.seed,
            checkpoints=run.checkpoints,
            callbacks=[
                *watching.callbacks(evaluate, config.policy.eval_steps),
                *(tracker_callbacks(config.policy.trackers, run.trackers, run.name) if ranks.is_main() else []),
            ],
            note=reporter.note,
            vary=varied if noise else None,
            measures=measures(context),
        )
        if resumed_from:
            reporter.note(f"went on from step {resumed_from}")
    except NotFinite as error:
        if not job.held_out:
            raise
        watching.has_diverged(error)
    _keep_adapters(run, policy, best, is_finite=watching.is_finite)
    figures = {**watching.as_dict(), **best.as_dict(), **_first_and_last_quarter(run)}
    write_text(run.report, html_report(run, figures, seed=config.seed))
    run.finish({**figures, "prompt_hash": policy.builder.hash})


def _context(job: Job, policy: Policy, reporter: Reporter) -> RewardContext:
    """What rewards are made of."""
    reward_model = _reward_model(job.reward_run, policy, job.config, reporter) if job.reward_run else None
    longest = job.config.policy.max_new_tokens or policy.max_new_tokens
    return RewardContext(policy.builder, reward_model, job.titles, job.other_answer, longest)


def _keep_adapters(run: Run, policy: Policy, best: Best, *, is_finite: bool) -> None:
    """Keeps the best adapter as that of the run, and the last beside it; where none was judged, the last."""
    from prlm_cli.models.adapters import save_adapter

    if not best.as_dict():
        save_adapter(policy.model, run.adapter)
        return
    shutil.copytree(best.adapter, run.adapter, dirs_exist_ok=True)
    if is_finite:
        save_adapter(policy.model, run.last)


class Best:
    """The best adapter of a run by its held-out score; best.json says which folder that is, and is replaced at once."""

    def __init__(self, run: Run) -> None:
        self._folder = run.folder
        self._file = run.folder / "best.json"

    @property
    def adapter(self) -> Path:
        """The folder of the best adapter."""
        return self._of_step(self.as_dict()["best_step"])

    def offer(self, step: int, score: float, save: Callable[[Path], None]) -> None:
        """Keeps the adapter of a step if none before scored higher.

        Args:
            step: That was judged.
            score: The higher, the better.
            save: Writes the adapter into a folder.
        """
        known = self.as_dict()
        if not known or score > known["best_heldout"]:
            save(self._of_step(step))
            write_text(self._file, json.dumps({"best_step": step, "best_heldout": score}) + "\n")
            for other in self._folder.glob("best-*"):
                if other != self.adapter:
                    shutil.rmtree(other)

    def as_dict(self) -> dict[str, Any]:
        """`best_step` and `best_heldout`; empty before the first evaluation."""
        return read_json(self._file) if self._file.exists() else {}

    def _of_step(self, step: int) -> Path:
        return self._folder / f"best-{step}"


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


def _reward_model(run: Run, policy: Policy, config: Config, reporter: Reporter) -> RewardModel:
    """The reward model of a run; where it sits on the policy's base, that base is in memory once."""
    from prlm_cli.models.loading import resolve_model

    base = Base(resolve_model(config.model.name, reporter), config.model.qlora, policy.model)
    return load_reward_model(run, reporter, base=base)


def _start_run(workspace: Workspace, config: Config) -> Run | None:
    if not config.policy.start_from:
        return None
    if config.warm_start.kind not in ("auto", "none"):
        raise SettingsError("--start-from and a warm start do not go together", hint="drop one of them")
    return workspace.finished_run(config.policy.start_from, "policy")


def _without_unused_rewards(config: Config, reward_run: Run | None) -> Config:
    weights = {name: weight for name, weight in config.policy.rewards.items() if weight}
    if reward_run is None:
        weights.pop("personalization", None)
    normalise = {name: scale for name, scale in config.policy.normalise.items() if name in weights}
    model = reward_run.name if reward_run else NO_REWARD_MODEL
    policy = structs.replace(config.policy, rewards=weights, normalise=normalise, reward_model=model)
    return structs.replace(config, policy=policy)


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
    if ranks.asks_for_fsdp():
        raise SettingsError("train-policy keeps the whole base in each process, without FSDP", hint="use --qlora")


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


def _rewards(config: Config, context: RewardContext) -> dict[str, tuple[Reward, float]]:
    return {name: (reward_named(name)(context), weight) for name, weight in config.policy.rewards.items()}


def _warm_start(workspace: Workspace, training: list[Retrieved], config: Config, reporter: Reporter) -> Run | None:
    kind = warm_start_kind(config, reasons_by_itself=reasons_by_itself(config, reporter))
    return None if kind == "none" else warm_start(workspace, training, config, kind, reporter)


def _held_out(store: Store, config: Config) -> list[Retrieved]:
    queries = islice((q for q in stored_queries(store, "dev") if q.target), config.policy.eval_queries)
    return list(retrieve(store, queries, config.retrieval, prompt=config.prompt, seed=config.seed))


def _mean_overlap(policy: Policy, queries: list[Retrieved], config: Config) -> float:
    answers = generate(queries, policy, config, temperature=0.0)
    return mean(mean(rouge(g.answer, g.target or "")) for g in answers)


def _first_and_last_quarter(run: Run) -> dict[str, float]:
    """The mean sampled reward of the first and last quarter of the steps; nothing of a run that made none."""
    rewards = [figures["reward"] for figures in read_log(run).steps.values() if "reward" in figures]
    if not rewards:
        return {}
    quarter = max(1, len(rewards) // 4)
    return {"reward_first_quarter": mean(rewards[:quarter]), "reward_last_quarter": mean(rewards[-quarter:])}
