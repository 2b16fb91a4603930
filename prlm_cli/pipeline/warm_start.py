"""The warm start: a short supervised run that is made once and shared by `train-reward` and `train-policy`."""

from __future__ import annotations

import hashlib

import msgspec

from prlm_cli.core.configuration import to_toml
from prlm_cli.core.errors import DataError
from prlm_cli.core.records import Retrieved
from prlm_cli.core.reporting import Reporter
from prlm_cli.core.settings import Config
from prlm_cli.core.workspace import Run, Workspace
from prlm_cli.pipeline.policies import Policy, load_policy
from prlm_cli.pipeline.training_set import user_hashes
from prlm_cli.version import __version__


def warm_start_kind(config: Config, *, reasons_by_itself: bool) -> str:
    """What `auto` stands for: answers without reasoning, traces with it.

    None where training goes on from a run, or where a model that is to reason does so by itself.
    """
    if config.warm_start.kind != "auto":
        return config.warm_start.kind
    if config.policy.start_from:
        return "none"
    if config.prompt.reasoning == "off":
        return "answers"
    return "none" if reasons_by_itself else "traces"


def warm_start(workspace: Workspace, queries: list[Retrieved], config: Config, kind: str, reporter: Reporter) -> Run:
    """The finished warm start of these inputs: trained, or found from an earlier time.

    Args:
        workspace: Where it is kept.
        queries: Training queries with their records and targets.
        config: Model, prompt and warm-start settings.
        kind: "answers" or "traces".
        reporter: Told about progress.

    Raises:
        DataError: If no query has a target.
    """
    examples = [query for query in queries if query.target]
    if not examples:
        raise DataError("no training query has a target", hint="a warm start imitates the users' own answers")
    run = Run(workspace.runs_folder / f"warm-start-{_hash(examples, config, kind)}")
    if (run.folder / "state.json").exists() and run.is_finished:
        reporter.note(f"warm start: {run.name} from an earlier time")
        return run
    with workspace.write_lock(run.name):
        run.start("policy", to_toml(config), is_warm_start=True, trained_on=user_hashes(examples))
        policy = load_policy(config, trainable=True, reporter=reporter)
        _train(run, policy, examples, config, kind, reporter)
    return run


def _train(run: Run, policy: Policy, examples: list[Retrieved], config: Config, kind: str, reporter: Reporter) -> None:
    from prlm_cli.models.adapters import save_adapter
    from prlm_cli.training.supervised import Example, train_supervised
    from prlm_cli.training.traces import trace

    rows = []
    for query in examples:
        assert query.target
        packed = policy.builder.build(query.text, query.profile, query.card)
        reasoning = trace(query.text, packed.records, query.target) if kind == "traces" else ""
        completion = policy.builder.completion(query.target, reasoning)
        rows.append(Example(packed.ids, policy.codec.encode_completion(completion)))
    train_supervised(
        policy.model,
        policy.tokenizer,
        rows,
        config.warm_start,
        seed=config.seed,
        gradient_checkpointing=config.policy.gradient_checkpointing,
        checkpoints=run.checkpoints,
        stage=reporter.stage(f"warm start on {kind}"),
        log=run.append_log,
    )
    save_adapter(policy.model, run.adapter)
    run.finish({"steps": config.warm_start.steps, "examples": len(rows), "prompt_hash": policy.builder.hash})


def _hash(examples: list[Retrieved], config: Config, kind: str) -> str:
    facts = [__version__, kind, config.model, config.prompt, config.warm_start, config.seed]
    content = msgspec.json.encode([facts, examples])
    return hashlib.blake2b(content, digest_size=5).hexdigest()
