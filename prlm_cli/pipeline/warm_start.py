"""The warm start: a short supervised run that is made once and shared by `train-reward` and `train-policy`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec

from prlm_cli.core.configuration import to_toml
from prlm_cli.core.errors import DataError
from prlm_cli.core.prompts import Packed
from prlm_cli.core.records import Generation, Retrieved
from prlm_cli.core.reporting import Reporter
from prlm_cli.core.settings import Config
from prlm_cli.core.workspace import Run, Workspace
from prlm_cli.pipeline.policies import Policy, load_policy
from prlm_cli.pipeline.star import best_samples
from prlm_cli.pipeline.training_set import QUERIES_TAKEN, user_hashes
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


def reasons_by_itself(config: Config, reporter: Reporter) -> bool:
    """Whether the base model thinks without having been taught to here."""
    from prlm_cli.models.loading import load_tokenizer, resolve_model
    from prlm_cli.models.tokenization import TokenizerCodec

    return TokenizerCodec(load_tokenizer(resolve_model(config.model.name, reporter))).reasons_by_itself


def warm_start(workspace: Workspace, queries: list[Retrieved], config: Config, kind: str, reporter: Reporter) -> Run:
    """The finished warm start of these inputs: trained, or found from an earlier time.

    Args:
        workspace: Where it is kept.
        queries: Training queries with their records and targets.
        config: Model, prompt and warm-start settings.
        kind: "answers", "traces" or "star".
        reporter: Told about progress.

    Raises:
        DataError: If no query has a target, no sample is worth imitating, or the run that is to draw them is not there.
        SettingsError: If that run was trained with other prompts.
    """
    # By id: `query_order` then has the same order for the rows here as for the queries of GRPO, which goes on in it.
    examples = sorted((query for query in queries if query.target), key=lambda query: query.query_id)
    if not examples:
        raise DataError("no training query has a target", hint="a warm start imitates the users' own answers")
    writer = config.warm_start.policy if kind == "star" else None
    writer_run = workspace.finished_run(writer, "policy") if writer else None
    run = Run(workspace.runs_folder / f"warm-start-{_hash(examples, config, kind, writer_run)}")
    if (run.folder / "state.json").exists() and run.is_finished:
        reporter.note(f"warm start: {run.name} from an earlier time")
        return run
    with workspace.write_lock(run.name):
        # Before the run begins: where no sample is worth imitating there is none.
        best = best_samples(workspace, examples, config, writer_run, reporter) if kind == "star" else None
        imitated = best.kept if best else examples
        run.start("policy", to_toml(config), is_warm_start=True, trained_on=user_hashes(imitated))
        policy = load_policy(config, trainable=True, reporter=reporter)
        _train(run, policy, imitated, config, kind, reporter)
        steps = config.warm_start.steps
        of_kind = best.figures if best else {QUERIES_TAKEN: steps * config.warm_start.batch_size}
        run.finish({"steps": steps, "examples": len(imitated), **of_kind, "prompt_hash": policy.builder.hash})
    return run


def _train(
    run: Run, policy: Policy, examples: Sequence[Retrieved], config: Config, kind: str, reporter: Reporter
) -> None:
    from prlm_cli.models.adapters import save_adapter
    from prlm_cli.training.completion_trainer import Example
    from prlm_cli.training.supervised import train_supervised

    rows = []
    for query in examples:
        packed = policy.builder.build(query.text, query.profile, query.card)
        rows.append(Example(packed.ids, policy.completion_ids(*_lesson(query, packed, kind))))
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
        note=reporter.note,
    )
    save_adapter(policy.model, run.adapter)


def _lesson(query: Retrieved, packed: Packed, kind: str) -> tuple[str, str]:
    """The answer to imitate, and the reasoning before it."""
    from prlm_cli.training.traces import trace

    if isinstance(query, Generation):
        return query.answer or "", query.reasoning or ""
    assert query.target
    return query.target, trace(query.text, packed.records, query.target) if kind == "traces" else ""


def _hash(examples: list[Retrieved], config: Config, kind: str, writer: Run | None) -> str:
    facts = [__version__, kind, config.model, config.prompt, config.warm_start, config.seed]
    if kind == "star":
        from prlm_cli.models.loading import fingerprint_of

        facts += [config.generation.max_new_tokens, fingerprint_of(writer.adapter) if writer else None]
    content = msgspec.json.encode([facts, examples])
    return hashlib.blake2b(content, digest_size=5).hexdigest()
