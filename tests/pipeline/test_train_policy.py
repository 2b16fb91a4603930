"""What a policy is trained on and started from, how it is judged, and what is left of it."""

from __future__ import annotations

import json
import re
import shutil

import pytest
import torch
from safetensors.torch import load_file

from prlm_cli.core.configuration import resolve
from prlm_cli.core.errors import MissingError, SettingsError
from prlm_cli.core.workspace import Workspace
from prlm_cli.engines.hf import HfEngine
from prlm_cli.pipeline import policy_job
from prlm_cli.pipeline import train_policy as module
from prlm_cli.pipeline.best_adapter import BestAdapter
from prlm_cli.pipeline.generate import generate
from prlm_cli.pipeline.policies import choose_policy
from prlm_cli.pipeline.sources import retrieved_from
from prlm_cli.pipeline.train_policy import train_policy
from prlm_cli.pipeline.train_reward import train_reward
from prlm_cli.training import grpo, supervised
from tests.conftest import tiny_corpus
from tests.pipeline.policy_runs import plain
from tests.pipeline.small import Notes, indexed, small

_OF_TWO = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2"}
_IN_PARTS = "policy.shard_base=true"


def test_fewer_queries_than_a_step_takes_are_an_error_before_anything_is_trained(tiny_model, workspace, monkeypatch):
    monkeypatch.setattr(module, "load_policy", lambda *_, **__: pytest.fail("loaded"))

    with pytest.raises(SettingsError, match=r"6 training queries, but a step takes 7; lower policy.prompts_per_step"):
        train_policy(workspace, small(tiny_model, "policy.prompts_per_step=7"), reporter=Notes())
    assert workspace.runs() == []


@pytest.mark.parametrize(
    ("assignments", "error", "message"),
    [
        (
            ["policy.rollouts=vllm"],
            MissingError,
            r"policy\.rollouts=vllm needs the package vllm; pip install 'prlm\[vllm\]'",
        ),
        (["policy.rollouts=vllm", "model.qlora=true"], SettingsError, "policy.rollouts=vllm needs a 16-bit base"),
        (["policy.rollouts=vllm", "policy.zero_variance=resample"], SettingsError, "vLLM draws no group again"),
    ],
    ids=["not installed", "a base in 4 bits", "groups drawn again"],
)
def test_rollouts_by_vllm_that_cannot_be_are_an_error_before_anything_is_read(
    workspace, monkeypatch, assignments, error, message
):
    monkeypatch.setattr(policy_job, "find_spec", lambda name: None)
    monkeypatch.setattr(policy_job, "training_queries", lambda *_: pytest.fail("read"))

    with pytest.raises(error, match=message):
        train_policy(workspace, resolve(assignments=assignments))


@pytest.mark.parametrize(
    ("variables", "assignments", "message"),
    [
        ({"ACCELERATE_USE_FSDP": "true"}, [], r"FSDP would split what is trained; .*, and set policy\.shard_base=true"),
        (_OF_TWO, ["policy.prompts_per_step=3"], r"policy\.prompts_per_step=3 cannot be split over 2 processes"),
        ({}, [_IN_PARTS], r"policy\.shard_base needs several processes; start them with `accelerate launch`"),
        (_OF_TWO, [_IN_PARTS, "model.qlora=true"], r"policy\.shard_base needs a 16-bit base; leave out --qlora"),
        (_OF_TWO, [_IN_PARTS, "policy.rollouts=vllm"], r"vLLM reads no base in parts; policy\.rollouts=hf"),
    ],
    ids=["the launcher's FSDP", "an odd number of prompts", "parts of one", "parts in 4 bits", "parts for vLLM"],
)
def test_what_several_processes_cannot_do_is_an_error_before_anything_is_read(
    workspace, monkeypatch, variables, assignments, message
):
    monkeypatch.setattr(policy_job, "find_spec", lambda name: "there")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(SettingsError, match=message):
        train_policy(workspace, resolve(assignments=assignments))
    assert workspace.runs() == []


@pytest.mark.parametrize("qlora", ["false", "true"], ids=["fp32", "4 bit"])
def test_training_changes_the_adapter_that_it_starts_from(tiny_model, workspace, lively, qlora):
    config = small(tiny_model, f"model.qlora={qlora}", "policy.eval_queries=0")

    run = train_policy(workspace, config, reporter=Notes())

    (start,) = [run for run in workspace.runs() if run.state.get("is_warm_start")]
    before, after = (load_file(r.adapter / "adapter_model.safetensors") for r in (start, run))
    assert (run.name, run.is_finished, workspace.latest("policy").name) == ("policy-1", True, "policy-1")
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert {weight.dtype for weight in after.values()} == {torch.float32}


def test_the_best_adapter_by_its_held_out_score_is_kept(tiny_model, workspace, monkeypatch):
    scores = iter([0.1, 0.3, 0.2])
    monkeypatch.setattr(module, "_overlaps", lambda policy, queries, config: [next(scores)])

    run = train_policy(workspace, plain(tiny_model, "policy.eval_steps=1"))

    assert (run.metrics["best_step"], run.metrics["best_heldout"]) == (1, 0.3)
    held_out = [line for line in map(json.loads, run.log.read_text().splitlines()) if "heldout" in line]
    assert [(line["step"], line["heldout"]) for line in held_out] == [(0, 0.1), (1, 0.3), (2, 0.2)]
    assert (run.adapter / "adapter_model.safetensors").read_bytes() == (
        BestAdapter(run).adapter / "adapter_model.safetensors"
    ).read_bytes()


def test_only_dev_queries_choose_the_adapter_and_test_queries_are_never_read(tiny_model, workspace, monkeypatch):
    seen = []
    monkeypatch.setattr(module, "_overlaps", lambda policy, queries, config: seen.append(queries) or [0.0])
    asked = policy_job.stored_queries
    splits = []
    monkeypatch.setattr(policy_job, "stored_queries", lambda store, split: splits.append(split) or asked(store, split))

    train_policy(workspace, plain(tiny_model, "policy.eval_queries=3", "policy.steps=1"))

    assert splits == ["dev"]
    assert {query.split for queries in seen for query in queries} == {"dev"}


def test_training_goes_on_from_another_run(tiny_model, workspace, lively):
    first = train_policy(workspace, plain(tiny_model, "policy.eval_queries=0"), name="first")

    config = small(tiny_model, "prompt.reasoning=off", "policy.start_from=first", "policy.eval_queries=0")
    second = train_policy(workspace, config, name="second")

    assert not [run for run in workspace.runs() if run.state.get("is_warm_start")]
    before, after = (load_file(r.adapter / "adapter_model.safetensors") for r in (first, second))
    steps = max(float((after[name] - before[name]).abs().max()) for name in before)
    assert 0 < steps <= 2.5e-2  # two steps of at most the learning rate each


@pytest.mark.parametrize("kind", ["answers", "traces", "star"])
def test_a_run_to_start_from_and_a_warm_start_are_refused_together(workspace, kind):
    config = resolve(assignments=["policy.start_from=first", f"warm_start.kind={kind}"])

    with pytest.raises(SettingsError, match="--start-from and a warm start do not go together; drop one of them"):
        train_policy(workspace, config)


def test_the_same_prompts_are_trained_on_and_answered(tiny_model, workspace, monkeypatch):
    """One builder for the warm start, GRPO and `generate`: byte for byte the same ids for the same query."""
    start, rollouts, answered = [], {}, {}
    train_supervised, train_grpo, complete = supervised.train_supervised, grpo.train_grpo, HfEngine.complete

    def keep_examples(model, tokenizer, examples, *rest, **options):
        start.extend(tuple(example.prompt_ids) for example in examples)
        train_supervised(model, tokenizer, examples, *rest, **options)

    def keep_rollouts(model, tokenizer, given, *rest, **options):
        rollouts.update({rollout.query.query_id: tuple(rollout.prompt_ids) for rollout in given})
        return train_grpo(model, tokenizer, given, *rest, **options)

    def keep_prompts(engine, prompts, keys):
        answered.update(zip(keys, map(tuple, prompts), strict=True))
        return complete(engine, prompts, keys)

    monkeypatch.setattr(supervised, "train_supervised", keep_examples)
    monkeypatch.setattr(grpo, "train_grpo", keep_rollouts)
    train_policy(workspace, small(tiny_model, "policy.steps=1", "policy.eval_queries=0", "retrieval.k=2"))

    monkeypatch.setattr(HfEngine, "complete", keep_prompts)
    chosen = choose_policy(workspace, None, lambda base: resolve(base=base), Notes())
    records = retrieved_from(workspace, chosen.config, path=None, split="train", user_id=None, text=None)
    list(generate(records, chosen.load(Notes()), chosen.config))

    assert len(rollouts) == 6
    assert answered == rollouts
    assert sorted(start) == sorted(rollouts.values())


def test_no_text_of_a_user_is_left_in_a_run(tiny_model, tmp_path):
    records = [
        {**r, **{k: f"CANARY {r[k]} CANARY" for k in ("text", "title", "target") if k in r}} for r in tiny_corpus()
    ]
    workspace = indexed(tmp_path, records)
    train_reward(workspace, small(tiny_model, "pairs.policy=none"), reporter=Notes())
    train_policy(workspace, small(tiny_model, "policy.save_steps=1"), reporter=Notes())

    files = [path for path in workspace.runs_folder.rglob("*") if path.is_file()]
    found = {path.name for path in files if re.search(b"CANARY|once more", path.read_bytes())}

    assert found == {"pairs.jsonl"}
    assert {path.name for path in files} >= {"log.jsonl", "state.json", "trainer_state.json", "config.toml"}


def test_the_workspace_of_another_person_is_not_touched(tiny_model, workspace, tmp_path):
    copy = Workspace(tmp_path / "copy")
    shutil.copytree(workspace.folder, copy.folder)

    train_policy(copy, plain(tiny_model, "policy.steps=1", "policy.eval_queries=0"))

    assert (workspace.runs(), [run.name for run in copy.runs()]) == ([], ["policy-1"])
