from __future__ import annotations

import json
import re
import shutil
from functools import partial
from itertools import count
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from prlm_cli.core.configuration import resolve
from prlm_cli.core.errors import DataError, MissingError, RefusedError, SettingsError
from prlm_cli.core.workspace import Run, Workspace
from prlm_cli.engines.hf import HfEngine
from prlm_cli.models.authorship import AuthorClassifier
from prlm_cli.models.reward_model import RewardModel
from prlm_cli.pipeline import policy_job
from prlm_cli.pipeline import train_policy as module
from prlm_cli.pipeline.best_adapter import BestAdapter
from prlm_cli.pipeline.generate import generate
from prlm_cli.pipeline.index import index
from prlm_cli.pipeline.other_answers import OtherAnswers
from prlm_cli.pipeline.policies import Policy, choose_policy
from prlm_cli.pipeline.reward_models import load_reward_model
from prlm_cli.pipeline.sources import retrieved_from
from prlm_cli.pipeline.train_policy import train_policy
from prlm_cli.pipeline.train_reward import train_reward
from prlm_cli.pipeline.training_set import user_hash
from prlm_cli.training import grpo, supervised
from tests.conftest import contents, tiny_corpus
from tests.killed import killed_at_operation
from tests.pipeline.canaries import Corpus, holding, write
from tests.pipeline.small import Notes, indexed, small
from tests.training.test_grpo import lengths

_OF_TWO = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2"}
_IN_PARTS = "policy.shard_base=true"
_NO_REWARD_MODEL = ["no reward model yet: going on without (run `prlm train-reward` to have one)"]
_GATE = {"gate": "open", "accuracy": {}, "interaction": None}


@pytest.fixture
def trained(monkeypatch):
    """What would be trained, instead of the training."""
    found = SimpleNamespace(config=None, reward_model=None, policy=None)

    def keep(run, policy, job, context, reporter):
        found.policy, found.config, found.reward_model = policy, job.config, context.reward_model
        run.finish({})

    monkeypatch.setattr(module, "_train", keep)
    return found


@pytest.fixture
def reward_model(monkeypatch):
    """Loads reward models as their run's name; `finish` makes a finished run."""
    monkeypatch.setattr(module, "load_reward_model", lambda run, reporter, base: run.name)

    def finish(workspace, name, gate):
        run = workspace.new_run("reward", name)
        run.start("reward", "")
        run.finish(_GATE | {"gate": gate})

    return finish


@pytest.fixture
def lively(monkeypatch):
    """A random model writes neither form nor overlap: completions that end, and a reward with spread."""
    monkeypatch.setattr(Policy, "stop_ids", list(range(0, 258, 4)))
    monkeypatch.setattr(module, "_rewards", lambda config, context: {"measure": (lengths, 1.0)})


def interrupt(workspace, config, monkeypatch, **options):
    """Trains a policy until the second step is in the log."""
    append = module.Run.append_log

    def killed(run, figures):
        append(run, figures)
        if figures["step"] == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module.Run, "append_log", killed)
        with pytest.raises(KeyboardInterrupt):
            train_policy(workspace, config, **options)


def test_an_unknown_reward_is_an_error_before_anything_is_trained(workspace):
    config = resolve(assignments=["policy.rewards.overlp=1.0"])

    with pytest.raises(SettingsError, match=r"no reward 'overlp'; did you mean overlap\?"):
        train_policy(workspace, config)
    assert workspace.runs() == []


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ('policy.rewards={"tests.rewards.functions:brevty"=1.0}', "no function 'brevty' in tests.rewards.functions"),
        ('policy.rewards={"metric:rouge"=1.0}', "no metric 'rouge'"),
        ("policy.normalise.overlp=group", "policy.normalise names 'overlp', .*; did you mean overlap?"),
    ],
)
def test_a_reward_that_cannot_be_had_is_an_error_before_a_model_loads(workspace, monkeypatch, assignment, message):
    monkeypatch.setattr(module, "load_policy", lambda *_, **__: pytest.fail("loaded"))

    with pytest.raises(SettingsError, match=message):
        train_policy(workspace, resolve(assignments=[assignment]))
    assert workspace.runs() == []


def test_a_scale_of_a_reward_that_falls_away_falls_away_too(tiny_model, workspace, trained):
    config = _plain(tiny_model, 'policy.normalise={personalization="group", overlap="batch"}')

    run = train_policy(workspace, config, reporter=Notes())

    assert trained.config.policy.normalise == {"overlap": "batch"}
    (workspace.folder / "again.toml").write_text(run.config)
    again = resolve(config_file=workspace.folder / "again.toml")  # what is stored with a run can be run again
    assert train_policy(workspace, again, name="again", reporter=Notes()).is_finished


_SIGNALS = {
    "overlap": 0.0, "format": 0.0, "personalization": 0.0, "echo": 1.0, "length": 1.0, "style": 1.0, "author": 1.0,
    "copy": 0.2, "overlong": 1.0, "contrast": 0.5,
    "metric:rougeL": 1.0, "metric:copy_rate": -1.0, "tests.rewards.functions:brevity": 1.0,
}  # fmt: skip


def test_a_policy_is_trained_by_all_signals_each_on_its_scale(tiny_model, workspace, monkeypatch):
    monkeypatch.setattr(Policy, "stop_ids", list(range(0, 258, 4)))
    scales = {"echo": "group", "style": "batch", "author": "running"}
    config = resolve(
        base=_plain(tiny_model, "policy.eval_queries=0", "policy.contrast=swapped"),
        flags={"policy.rewards": _SIGNALS, "policy.normalise": scales},
    )

    run = train_policy(workspace, config, reporter=Notes())

    lines = [json.loads(line) for line in run.log.read_text().splitlines()]
    logged = {name.split("/")[1] for name in lines[0] if name.startswith("rewards/")}
    assert logged == {name for name, weight in _SIGNALS.items() if weight}
    assert 0 < lines[0]["rewards/author/mean"] < 1


def test_a_classifier_of_authors_puts_nobodys_text_into_a_prompt_or_a_file(tiny_model, tmp_path, monkeypatch):
    corpus, prompts, learnt = Corpus("abc"), {}, []
    workspace = Workspace(tmp_path / "workspace")
    index(workspace, [write(tmp_path / "data.jsonl", corpus.records)])
    monkeypatch.setattr(Policy, "stop_ids", list(range(0, 258, 4)))
    train_grpo, fit = grpo.train_grpo, AuthorClassifier.__init__

    def keep_rollouts(model, tokenizer, given, *rest, **options):
        prompts.update({tokenizer.decode(r.prompt_ids): r.query.user_id for r in given})
        return train_grpo(model, tokenizer, given, *rest, **options)

    def keep_titles(classifier, own, others):
        learnt.append((own, others))
        fit(classifier, own, others)

    monkeypatch.setattr(grpo, "train_grpo", keep_rollouts)
    monkeypatch.setattr(AuthorClassifier, "__init__", keep_titles)
    before = holding(workspace.folder, set().union(*corpus.canaries.values()))
    config = _plain(tiny_model, "policy.eval_queries=0", "policy.rewards.author=1.0", "policy.save_steps=1")
    train_policy(workspace, config, reporter=Notes())

    assert learnt and all(own and others for own, others in learnt)  # it was used
    assert holding(workspace.folder, set().union(*corpus.canaries.values())) == before
    for prompt, user_id in prompts.items():
        others = set().union(*(words for owner, words in corpus.canaries.items() if owner != user_id))
        assert any(word in prompt for word in corpus.canaries[user_id])
        assert not any(word in prompt for word in others)


def test_with_contrast_another_users_answer_is_known_to_the_reward_and_to_nothing_else(
    tiny_model, tmp_path, monkeypatch
):
    corpus, prompts, known = Corpus("abc"), {}, []
    workspace = Workspace(tmp_path / "workspace")
    index(workspace, [write(tmp_path / "data.jsonl", corpus.records)])
    monkeypatch.setattr(Policy, "stop_ids", list(range(0, 258, 4)))
    train_grpo, answer = grpo.train_grpo, OtherAnswers.__call__

    def keep_rollouts(model, tokenizer, given, *rest, **options):
        prompts.update({tokenizer.decode(r.prompt_ids): r.query.user_id for r in given})
        return train_grpo(model, tokenizer, given, *rest, **options)

    def keep_answers(answers, query):
        known.append((query.user_id, answer(answers, query)))
        return known[-1][1]

    monkeypatch.setattr(grpo, "train_grpo", keep_rollouts)
    monkeypatch.setattr(OtherAnswers, "__call__", keep_answers)
    before = holding(workspace.folder, set().union(*corpus.canaries.values()))
    config = _plain(tiny_model, "policy.eval_queries=0", "policy.contrast=swapped", "policy.save_steps=1")
    run = train_policy(workspace, config, reporter=Notes())

    assert holding(workspace.folder, set().union(*corpus.canaries.values())) == before
    owners = {user_id for owner, found in known for user_id, words in corpus.canaries.items() if found in words}
    assert known and all(found and found not in corpus.canaries[owner] for owner, found in known)
    assert {user_hash(user_id) for user_id in owners} <= set(run.state["trained_on"])
    for prompt, user_id in prompts.items():
        others = set().union(*(words for owner, words in corpus.canaries.items() if owner != user_id))
        assert not any(word in prompt for word in others)


def test_contrast_weighs_as_much_as_overlap_unless_told(tiny_model, workspace, trained):
    config = _plain(tiny_model, "policy.contrast=swapped", "policy.rewards.overlap=2.0")
    train_policy(workspace, config, reporter=Notes())

    assert trained.config.policy.rewards == {"overlap": 2.0, "format": 0.1, "contrast": 2.0}

    train_policy(workspace, resolve(base=config, assignments=["policy.rewards.contrast=0.5"]), reporter=Notes())
    assert trained.config.policy.rewards["contrast"] == 0.5


def test_nobody_is_contrasted_with_unasked(workspace):
    with pytest.raises(SettingsError, match=r"reward 'contrast' reads other users' answers; ask: --contrast swapped"):
        train_policy(workspace, resolve(assignments=["policy.rewards.contrast=1.0"]))
    assert workspace.runs() == []


def test_fewer_queries_than_a_step_takes_are_an_error_before_anything_is_trained(tiny_model, workspace, monkeypatch):
    monkeypatch.setattr(module, "load_policy", lambda *_, **__: pytest.fail("loaded"))

    with pytest.raises(SettingsError, match=r"6 training queries, but a step takes 7; lower policy.prompts_per_step"):
        train_policy(workspace, small(tiny_model, "policy.prompts_per_step=7"), reporter=Notes())
    assert workspace.runs() == []


def test_nobodys_titles_are_read_without_a_classifier(tiny_model, workspace, trained, monkeypatch):
    monkeypatch.setattr(policy_job, "read_pool", lambda *_, **__: pytest.fail("read"))

    train_policy(workspace, _plain(tiny_model, "policy.rewards.author=0.0"), reporter=Notes())

    assert trained.config.policy.rewards == {"overlap": 1.0, "format": 0.1}


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


def _plain(model, *assignments):
    return small(model, "warm_start.kind=none", "prompt.reasoning=off", *assignments)


def test_without_a_reward_model_it_goes_on_without_and_says_so(tiny_model, workspace, trained):
    reporter = Notes()

    run = train_policy(workspace, _plain(tiny_model), reporter=reporter)

    assert reporter.notes == _NO_REWARD_MODEL
    assert (trained.reward_model, run.state["reward_model"]) == (None, None)
    assert trained.config.policy.rewards == {"overlap": 1.0, "format": 0.1}


@pytest.mark.parametrize("assignment", ["policy.reward_model=none", "policy.rewards={personalization=0.0}"])
def test_no_reward_model_on_purpose_is_silent(tiny_model, workspace, trained, reward_model, assignment):
    reporter = Notes()
    reward_model(workspace, "mine", "open")

    train_policy(workspace, _plain(tiny_model, assignment), reporter=reporter)

    assert (reporter.notes, trained.reward_model) == ([], None)


def test_the_newest_reward_model_with_an_open_gate_is_used(tiny_model, workspace, trained, reward_model):
    reporter = Notes()
    reward_model(workspace, "older", "open")
    reward_model(workspace, "newer", "open")

    run = train_policy(workspace, _plain(tiny_model), reporter=reporter)

    assert (reporter.notes, trained.reward_model, run.state["reward_model"]) == ([], "newer", "newer")
    assert trained.config.policy.rewards["personalization"] == 0.1
    assert trained.config.policy.reward_model == "newer"


def test_a_newest_reward_model_with_a_closed_gate_has_no_weight(tiny_model, workspace, trained, reward_model):
    reporter = Notes()
    reward_model(workspace, "mine", "closed")

    train_policy(workspace, _plain(tiny_model), reporter=reporter)

    assert reporter.notes == ["reward model mine did not pass its gate: its weight is 0"]
    assert (trained.reward_model, trained.config.policy.rewards) == (None, {"overlap": 1.0, "format": 0.1})


def test_a_named_reward_model_with_a_closed_gate_is_refused_unless_forced(tiny_model, workspace, trained, reward_model):
    reward_model(workspace, "mine", "closed")
    config = _plain(tiny_model, "policy.reward_model=mine")

    with pytest.raises(RefusedError, match=r"reward model 'mine' did not pass its gate; .*--force uses it") as caught:
        train_policy(workspace, config)
    assert (caught.value.exit_code, workspace.latest("policy")) == (1, None)

    train_policy(workspace, config, force=True)
    assert trained.reward_model == "mine"


def test_a_named_reward_model_that_is_not_there_is_an_error(tiny_model, workspace, trained):
    with pytest.raises(DataError, match=r"no run 'mine'"):
        train_policy(workspace, _plain(tiny_model, "policy.reward_model=mine"))


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


@pytest.fixture
def judged(monkeypatch):
    """Training with a reward model's opinion alone; what it is asked, and the model it sits on, are kept."""
    found = SimpleNamespace(asked=[], networks=[])
    rewards, load = RewardModel.rewards, module.load_reward_model

    def keep(model, items):
        found.asked.append((items, rewards(model, items)))
        return found.asked[-1][1]

    def loaded(*given, **options):
        model = load(*given, **options)
        found.networks.append(model.network)
        return model

    monkeypatch.setattr(RewardModel, "rewards", keep)
    monkeypatch.setattr(module, "load_reward_model", loaded)
    monkeypatch.setattr(Policy, "stop_ids", list(range(0, 258, 4)))
    return found


@pytest.mark.parametrize("assignments", [["policy.beta=0.1"], ["model.qlora=true"]], ids=["beta", "4 bit"])
def test_a_policy_is_trained_with_its_judge_on_its_own_base(tiny_model, workspace, judged, assignments):
    config = _plain(
        tiny_model, "policy.rewards={personalization=1.0}", "policy.eval_queries=0", "policy.save_steps=1", *assignments
    )
    reward = train_reward(workspace, config, reporter=Notes())

    run = train_policy(workspace, config, force=True, name="judged", reporter=Notes())

    (network,) = judged.networks
    assert set(network.model.peft_config) >= {"default", "reward"}
    assert len(judged.asked) >= 2
    apart = load_reward_model(reward, Notes())
    items = [item for items, _ in judged.asked for item in items]
    found = [reward for _, rewards in judged.asked for reward in rewards]
    assert found == pytest.approx([apart.reward(score) for score in apart.scores(items)], abs=1e-5)
    saved = load_file(run.adapter / "adapter_model.safetensors")
    assert sorted(path.name for path in run.adapter.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    assert any(float(weight.abs().max()) for name, weight in saved.items() if "lora_B" in name)  # it was trained
    judge = load_file(reward.adapter / "adapter_model.safetensors")
    inside = {n: p for n, p in network.model.named_parameters() if ".reward." in n}
    assert {name.replace(".reward", "") for name in inside} == set(judge)
    assert all(torch.equal(judge[name.replace(".reward", "")], p) for name, p in inside.items())  # and that was not


def test_an_interrupted_run_with_its_judge_on_its_base_ends_like_an_unbroken_one(
    tiny_model, workspace, judged, monkeypatch
):
    config = _plain(
        tiny_model,
        "policy.rewards={personalization=1.0}",
        "policy.eval_queries=0",
        "policy.steps=3",
        "policy.save_steps=1",
        "policy.reward_model=judge",
    )
    train_reward(workspace, config, name="judge", reporter=Notes())
    unbroken = train_policy(workspace, config, name="unbroken", force=True)
    interrupt(workspace, config, monkeypatch, force=True)
    reporter = Notes()
    run = train_policy(workspace, config, force=True, reporter=reporter)

    assert reporter.notes[-1] == "went on from step 1"
    expected, found = (load_file(r.adapter / "adapter_model.safetensors") for r in (unbroken, run))
    assert all(torch.allclose(found[name], expected[name], atol=1e-6) for name in expected)


def test_the_best_adapter_by_its_held_out_score_is_kept(tiny_model, workspace, monkeypatch):
    scores = iter([0.1, 0.3, 0.2])
    monkeypatch.setattr(module, "_mean_overlap", lambda policy, queries, config: next(scores))

    run = train_policy(workspace, _plain(tiny_model, "policy.eval_steps=1"))

    assert (run.metrics["best_step"], run.metrics["best_heldout"]) == (1, 0.3)
    held_out = [line for line in map(json.loads, run.log.read_text().splitlines()) if "heldout" in line]
    assert [(line["step"], line["heldout"]) for line in held_out] == [(0, 0.1), (1, 0.3), (2, 0.2)]
    assert (run.adapter / "adapter_model.safetensors").read_bytes() == (
        BestAdapter(run).adapter / "adapter_model.safetensors"
    ).read_bytes()


def test_killed_between_any_two_steps_on_the_disk_the_best_adapter_is_the_one_that_is_named(tmp_path, monkeypatch):
    def save(folder):
        folder.mkdir(exist_ok=True)
        for name in ("a", "b"):
            (folder / name).write_text(folder.name)

    for operation in count():
        run = Run(tmp_path / str(operation))
        run.folder.mkdir()
        best = BestAdapter(run)
        best.offer(0, 0.1, save)
        killed = killed_at_operation(operation, monkeypatch, partial(best.offer, 4, 0.2, save))
        step = best.as_dict()["best_step"]
        assert [(best.adapter / name).read_text() for name in ("a", "b")] == [f"best-{step}"] * 2
        if not killed:
            break
        best.offer(8, 0.3, save)
        assert [path.name for path in run.folder.glob("best-*")] == ["best-8"]

    assert operation > 4 and step == 4


def test_what_was_logged_after_the_checkpoint_is_dropped_where_a_run_goes_on(tmp_path):
    run = Run(tmp_path)
    run.rewind_log(3)
    assert not run.log.exists()
    for step in (0, 1, 1, 2, 3):
        run.append_log({"step": step})
    with run.log.open("a") as stream:
        stream.write('{"step": 4, "los')

    run.rewind_log(2)

    assert run.log.read_text() == '{"step": 0}\n{"step": 1}\n{"step": 1}\n{"step": 2}\n'
    run.rewind_log(0)
    assert run.log.read_text() == ""


def test_never_to_resume_is_to_begin_anew_and_leaves_the_interrupted_run(tiny_model, workspace, lively, monkeypatch):
    config = _plain(tiny_model, "policy.steps=3", "policy.save_steps=1", "policy.eval_queries=0")
    interrupt(workspace, config, monkeypatch)
    interrupted, reporter = contents(workspace.run("policy-1").folder), Notes()

    run = train_policy(workspace, config, resume=False, reporter=reporter)

    assert (run.name, run.is_finished, reporter.notes) == ("policy-2", True, _NO_REWARD_MODEL)
    assert [json.loads(line)["step"] for line in run.log.read_text().splitlines()] == [1, 2, 3]
    assert contents(workspace.run("policy-1").folder) == interrupted
    with pytest.raises(DataError, match=r"run 'policy-1' exists"):
        train_policy(workspace, config, name="policy-1", resume=False)


def test_only_dev_queries_choose_the_adapter_and_test_queries_are_never_read(tiny_model, workspace, monkeypatch):
    seen = []
    monkeypatch.setattr(module, "_mean_overlap", lambda policy, queries, config: seen.append(queries) or 0.0)
    asked = policy_job.stored_queries
    splits = []
    monkeypatch.setattr(policy_job, "stored_queries", lambda store, split: splits.append(split) or asked(store, split))

    train_policy(workspace, _plain(tiny_model, "policy.eval_queries=3", "policy.steps=1"))

    assert splits == ["dev"]
    assert {query.split for queries in seen for query in queries} == {"dev"}


def test_training_goes_on_from_another_run(tiny_model, workspace, lively):
    first = train_policy(workspace, _plain(tiny_model, "policy.eval_queries=0"), name="first")

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


def test_an_interrupted_run_goes_on_and_ends_like_an_unbroken_one(tiny_model, workspace, lively, monkeypatch):
    config = _plain(tiny_model, "policy.steps=3", "policy.save_steps=1", "policy.eval_queries=0")
    unbroken = train_policy(workspace, config, name="unbroken")
    interrupt(workspace, config, monkeypatch)
    reporter = Notes()
    run = train_policy(workspace, config, reporter=reporter)

    assert (run.name, run.is_finished) == ("policy-1", True)
    assert reporter.notes[-2:] == ["going on with run policy-1", "went on from step 1"]
    expected, found = (load_file(r.adapter / "adapter_model.safetensors") for r in (unbroken, run))
    assert all(torch.allclose(found[name], expected[name], atol=1e-6) for name in expected)


def test_an_interrupted_run_that_needs_force_goes_on_too(tiny_model, workspace, trained, reward_model, monkeypatch):
    reward_model(workspace, "mine", "closed")
    config, reporter = _plain(tiny_model, "policy.reward_model=mine"), Notes()
    with monkeypatch.context() as patch:
        patch.setattr(module, "_train", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train_policy(workspace, config, force=True)

    assert train_policy(workspace, config, force=True, reporter=reporter).name == "policy-1"
    assert reporter.notes == ["going on with run policy-1"]


def test_force_replaces_a_finished_run_of_that_name(tiny_model, workspace, trained):
    train_policy(workspace, _plain(tiny_model), name="mine")
    with pytest.raises(DataError, match=r"run 'mine' exists"):
        train_policy(workspace, _plain(tiny_model), name="mine")

    assert "seed = 1" in train_policy(workspace, _plain(tiny_model, "seed=1"), name="mine", force=True).config


def test_a_run_of_the_same_name_but_other_settings_is_refused(tiny_model, workspace, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(module, "_train", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train_policy(workspace, _plain(tiny_model), name="mine")

    with pytest.raises(SettingsError, match=r"run 'mine' was started with seed = 0"):
        train_policy(workspace, _plain(tiny_model, "seed=1"), name="mine")


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
    assert start == list(rollouts.values())


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

    train_policy(copy, _plain(tiny_model, "policy.steps=1", "policy.eval_queries=0"))

    assert (workspace.runs(), [run.name for run in copy.runs()]) == ([], ["policy-1"])
