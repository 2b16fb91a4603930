"""`prlm train-policy`: a warm start, then GRPO, judged on held-out queries while it runs."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from math import isfinite
from pathlib import Path
from statistics import mean

from prlm_cli.core import ranks
from prlm_cli.core.records import Query, Retrieved
from prlm_cli.core.reporting import Reporter, Silent
from prlm_cli.core.settings import Config
from prlm_cli.core.workspace import Run, Workspace, write_text
from prlm_cli.metrics.intervals import paired_interval
from prlm_cli.metrics.rouge import rouge
from prlm_cli.models.reward_model import RewardModel
from prlm_cli.pipeline.best_adapter import BestAdapter
from prlm_cli.pipeline.generate import generate
from prlm_cli.pipeline.policies import Policy, check_prompts, load_policy
from prlm_cli.pipeline.policy_job import Job, checked, settle
from prlm_cli.pipeline.policy_report import html_report
from prlm_cli.pipeline.reward_models import Base, load_reward_model
from prlm_cli.pipeline.run_log import HELD_OUT, SWAPPED, read_log
from prlm_cli.pipeline.samples import SAMPLED_QUERIES, write_samples
from prlm_cli.pipeline.training_set import QUERIES_TAKEN
from prlm_cli.pipeline.watching import Watching, measures
from prlm_cli.rewards import Reward, RewardContext
from prlm_cli.rewards.named import reward_named
from prlm_cli.training.watchdog import PROFILE_GAIN


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
    config = checked(config)
    with ExitStack() as held:

        def settled() -> Job:
            return settle(workspace, config, queries, name, resume=resume, force=force, reporter=reporter, held=held)

        job = _settled_by_main(settled) if ranks.world_size() > 1 else settled()
        sharded = job.config.policy.shard_base
        policy = load_policy(job.config, run=job.start, trainable=True, sharded=sharded, reporter=reporter)
        check_prompts(job.start, policy.builder)
        run = job.run if ranks.is_main() else _copy_of(job.run, held.enter_context(workspace.scratch()))
        _train(run, policy, job, _context(job, policy, reporter), reporter)
    if ranks.world_size() > 1:
        _disconnect()
    return job.run


def _settled_by_main(settled: Callable[[], Job]) -> Job:
    from prlm_cli.training.collectives import from_main

    return from_main(settled)


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
    from prlm_cli.models.sharding import whole
    from prlm_cli.training import shared_prefix
    from prlm_cli.training.callbacks import NotFinite
    from prlm_cli.training.checkpoints import newest_step
    from prlm_cli.training.grpo import Rollout, train_grpo
    from prlm_cli.training.order import met_before
    from prlm_cli.training.trackers import tracker_callbacks

    config, noise = job.config, job.noise
    taken = job.start.metrics.get(QUERIES_TAKEN, 0) if job.start else 0
    prompts = _prompts(config.policy.steps, config)
    if known := met_before([query.query_id for query in job.training], taken, prompts, config.seed):
        reporter.note(f"{known} of the {prompts} prompts of GRPO are for queries that the policy was trained on before")
    if reason := shared_prefix.why_not(policy.model):
        reporter.note(f"the prompt is computed once a completion, not once a group: {reason}")

    def rollout(query: Retrieved) -> Rollout:
        return Rollout(policy.builder.build(query.text, query.profile, query.card).ids, query)

    def varied(known: Rollout, time: int) -> Rollout:
        assert noise
        query = noise(known.query, time)
        return known if query is known.query else rollout(query)

    run.rewind_log(newest_step(run.checkpoints))
    best, watching = BestAdapter(run), Watching(run, config, reporter)

    def evaluate(step: int) -> None:
        with whole(policy.model):
            if job.held_out:
                own = _overlaps(policy, job.held_out, config)
                best.offer(step, mean(own), lambda folder: save_adapter(policy.model, folder))
                watching.judged(step, {HELD_OUT: mean(own), **_beside_swapped(own, policy, job)})
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
            taken=taken,
        )
        if resumed_from:
            reporter.note(f"went on from step {resumed_from}")
    except NotFinite as error:
        if not job.held_out:
            raise
        watching.has_diverged(error)
    best.keep(policy.model, is_finite=watching.is_finite)
    figures = {**watching.as_dict(), **best.as_dict(), **_first_and_last_quarter(run)}
    figures[QUERIES_TAKEN] = taken + _prompts(figures["steps"], config)
    write_text(run.report, html_report(run, figures, seed=config.seed))
    run.finish({**figures, "prompt_hash": policy.builder.hash})


def _prompts(steps: int, config: Config) -> int:
    """How many prompts rollouts are drawn for in so many steps."""
    return -(-steps // config.policy.num_iterations) * config.policy.prompts_per_step


def _context(job: Job, policy: Policy, reporter: Reporter) -> RewardContext:
    """What rewards are made of."""
    reward_model = _reward_model(job.reward_run, policy, job.config, reporter) if job.reward_run else None
    longest = job.config.policy.max_new_tokens or policy.max_new_tokens
    return RewardContext(policy.builder, reward_model, job.titles, job.other_answer, longest)


def _reward_model(run: Run, policy: Policy, config: Config, reporter: Reporter) -> RewardModel:
    """The reward model of a run; where it sits on the policy's base, that base is in memory once."""
    from prlm_cli.models.loading import resolve_model

    base = Base(resolve_model(config.model.name, reporter), config.model, policy.model)
    return load_reward_model(run, reporter, base=base)


def _rewards(config: Config, context: RewardContext) -> dict[str, tuple[Reward, float]]:
    return {name: (reward_named(name)(context), weight) for name, weight in config.policy.rewards.items()}


def _overlaps(policy: Policy, queries: list[Retrieved], config: Config) -> list[float]:
    """The score of each query's greedy answer."""
    answers = generate(queries, policy, config, temperature=0.0)
    return [mean(rouge(g.answer, g.target or "")) for g in answers]


def _beside_swapped(own: list[float], policy: Policy, job: Job) -> dict[str, float]:
    """The held-out score with another user's records, and the lower end of what the users' own are worth beside it.

    Nothing where it is not asked for, and no lower end where the queries are of one user, who says nothing of others.
    """
    if not job.swapped:
        return {}
    given = [(score, query) for score, query in zip(own, job.swapped, strict=True) if query]
    scores, queries = [score for score, _ in given], [query for _, query in given]
    others = _overlaps(policy, queries, job.config)
    users, resamples = [query.user_id for query in queries], job.config.eval.bootstrap
    gain = paired_interval(scores, others, users, resamples=resamples, seed=job.config.seed)
    return {SWAPPED: mean(others), **({PROFILE_GAIN: gain.low} if isfinite(gain.low) else {})}


def _first_and_last_quarter(run: Run) -> dict[str, float]:
    """The mean sampled reward of the first and last quarter of the steps; nothing of a run that made none."""
    rewards = [figures["reward"] for figures in read_log(run).steps.values() if "reward" in figures]
    if not rewards:
        return {}
    quarter = max(1, len(rewards) // 4)
    return {"reward_first_quarter": mean(rewards[:quarter]), "reward_last_quarter": mean(rewards[-quarter:])}
