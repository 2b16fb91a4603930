"""What a policy is rewarded with: its rewards and their scales, and which reward model is its judge."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from prlm_cli.core.configuration import resolve
from prlm_cli.core.errors import DataError, RefusedError, SettingsError
from prlm_cli.core.workspace import Workspace
from prlm_cli.models.authorship import AuthorClassifier
from prlm_cli.models.reward_model import RewardModel
from prlm_cli.pipeline import policy_job
from prlm_cli.pipeline import train_policy as module
from prlm_cli.pipeline.index import index
from prlm_cli.pipeline.other_answers import OtherAnswers
from prlm_cli.pipeline.policies import Policy
from prlm_cli.pipeline.reward_models import load_reward_model
from prlm_cli.pipeline.train_policy import train_policy
from prlm_cli.pipeline.train_reward import train_reward
from prlm_cli.pipeline.training_set import user_hash
from prlm_cli.training import grpo
from tests.pipeline.canaries import Corpus, holding, write
from tests.pipeline.policy_runs import NO_REWARD_MODEL, interrupt, plain
from tests.pipeline.small import Notes

_SIGNALS = {
    "overlap": 0.0, "format": 0.0, "personalization": 0.0, "echo": 1.0, "length": 1.0, "style": 1.0, "author": 1.0,
    "copy": 0.2, "overlong": 1.0, "contrast": 0.5,
    "metric:rougeL": 1.0, "metric:copy_rate": -1.0, "tests.rewards.functions:brevity": 1.0,
}  # fmt: skip


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
    config = plain(tiny_model, 'policy.normalise={personalization="group", overlap="batch"}')

    run = train_policy(workspace, config, reporter=Notes())

    assert trained.config.policy.normalise == {"overlap": "batch"}
    (workspace.folder / "again.toml").write_text(run.config)
    again = resolve(config_file=workspace.folder / "again.toml")  # what is stored with a run can be run again
    assert train_policy(workspace, again, name="again", reporter=Notes()).is_finished


def test_a_policy_is_trained_by_all_signals_each_on_its_scale(tiny_model, workspace, monkeypatch):
    monkeypatch.setattr(Policy, "stop_ids", list(range(0, 258, 4)))
    scales = {"echo": "group", "style": "batch", "author": "running"}
    config = resolve(
        base=plain(tiny_model, "policy.eval_queries=0", "policy.contrast=swapped"),
        flags={"policy.rewards": _SIGNALS, "policy.normalise": scales},
    )

    run = train_policy(workspace, config, reporter=Notes())

    lines = [json.loads(line) for line in run.log.read_text().splitlines()]
    logged = {name.split("/")[1] for name in lines[0] if name.startswith("rewards/")}
    assert logged == {name for name, weight in _SIGNALS.items() if weight}
    assert 0 < lines[0]["rewards/author/mean"] < 1


@pytest.fixture
def canaries(tmp_path, monkeypatch):
    """A workspace of texts that are recognised everywhere; `prompts` takes those of a training, and whose they are."""
    found = SimpleNamespace(corpus=Corpus("abc"), workspace=Workspace(tmp_path / "workspace"), prompts={})
    index(found.workspace, [write(tmp_path / "data.jsonl", found.corpus.records)])
    monkeypatch.setattr(Policy, "stop_ids", list(range(0, 258, 4)))
    train_grpo = grpo.train_grpo

    def keep_rollouts(model, tokenizer, given, *rest, **options):
        found.prompts.update({tokenizer.decode(r.prompt_ids): r.query.user_id for r in given})
        return train_grpo(model, tokenizer, given, *rest, **options)

    monkeypatch.setattr(grpo, "train_grpo", keep_rollouts)
    return found


def test_a_classifier_of_authors_puts_nobodys_text_into_a_prompt_or_a_file(tiny_model, canaries, monkeypatch):
    corpus, workspace, learnt = canaries.corpus, canaries.workspace, []
    fit = AuthorClassifier.__init__

    def keep_titles(classifier, own, others):
        learnt.append((own, others))
        fit(classifier, own, others)

    monkeypatch.setattr(AuthorClassifier, "__init__", keep_titles)
    before = holding(workspace.folder, set().union(*corpus.canaries.values()))
    config = plain(tiny_model, "policy.eval_queries=0", "policy.rewards.author=1.0", "policy.save_steps=1")
    train_policy(workspace, config, reporter=Notes())

    assert learnt and all(own and others for own, others in learnt)  # it was used
    assert holding(workspace.folder, set().union(*corpus.canaries.values())) == before
    for prompt, user_id in canaries.prompts.items():
        others = set().union(*(words for owner, words in corpus.canaries.items() if owner != user_id))
        assert any(word in prompt for word in corpus.canaries[user_id])
        assert not any(word in prompt for word in others)


def test_with_contrast_another_users_answer_is_known_to_the_reward_and_to_nothing_else(
    tiny_model, canaries, monkeypatch
):
    corpus, workspace, known = canaries.corpus, canaries.workspace, []
    answer = OtherAnswers.__call__

    def keep_answers(answers, query):
        known.append((query.user_id, answer(answers, query)))
        return known[-1][1]

    monkeypatch.setattr(OtherAnswers, "__call__", keep_answers)
    before = holding(workspace.folder, set().union(*corpus.canaries.values()))
    config = plain(tiny_model, "policy.eval_queries=0", "policy.contrast=swapped", "policy.save_steps=1")
    run = train_policy(workspace, config, reporter=Notes())

    assert holding(workspace.folder, set().union(*corpus.canaries.values())) == before
    owners = {user_id for owner, found in known for user_id, words in corpus.canaries.items() if found in words}
    assert known and all(found and found not in corpus.canaries[owner] for owner, found in known)
    assert {user_hash(user_id) for user_id in owners} <= set(run.state["trained_on"])
    for prompt, user_id in canaries.prompts.items():
        others = set().union(*(words for owner, words in corpus.canaries.items() if owner != user_id))
        assert not any(word in prompt for word in others)


def test_contrast_weighs_as_much_as_overlap_unless_told(tiny_model, workspace, trained):
    config = plain(tiny_model, "policy.contrast=swapped", "policy.rewards.overlap=2.0")
    train_policy(workspace, config, reporter=Notes())

    assert trained.config.policy.rewards == {"overlap": 2.0, "format": 0.1, "contrast": 2.0}

    train_policy(workspace, resolve(base=config, assignments=["policy.rewards.contrast=0.5"]), reporter=Notes())
    assert trained.config.policy.rewards["contrast"] == 0.5


def test_nobody_is_contrasted_with_unasked(workspace):
    with pytest.raises(SettingsError, match=r"reward 'contrast' reads other users' answers; ask: --contrast swapped"):
        train_policy(workspace, resolve(assignments=["policy.rewards.contrast=1.0"]))
    assert workspace.runs() == []


def test_nobodys_titles_are_read_without_a_classifier(tiny_model, workspace, trained, monkeypatch):
    monkeypatch.setattr(policy_job, "read_pool", lambda *_, **__: pytest.fail("read"))

    train_policy(workspace, plain(tiny_model, "policy.rewards.author=0.0"), reporter=Notes())

    assert trained.config.policy.rewards == {"overlap": 1.0, "format": 0.1}


def test_without_a_reward_model_it_goes_on_without_and_says_so(tiny_model, workspace, trained):
    reporter = Notes()

    run = train_policy(workspace, plain(tiny_model), reporter=reporter)

    assert reporter.notes == NO_REWARD_MODEL
    assert (trained.reward_model, run.state["reward_model"]) == (None, None)
    assert trained.config.policy.rewards == {"overlap": 1.0, "format": 0.1}


@pytest.mark.parametrize("assignment", ["policy.reward_model=none", "policy.rewards={personalization=0.0}"])
def test_no_reward_model_on_purpose_is_silent(tiny_model, workspace, trained, reward_model, assignment):
    reporter = Notes()
    reward_model(workspace, "mine", "open")

    train_policy(workspace, plain(tiny_model, assignment), reporter=reporter)

    assert (reporter.notes, trained.reward_model) == ([], None)


def test_the_newest_reward_model_with_an_open_gate_is_used(tiny_model, workspace, trained, reward_model):
    reporter = Notes()
    reward_model(workspace, "older", "open")
    reward_model(workspace, "newer", "open")

    run = train_policy(workspace, plain(tiny_model), reporter=reporter)

    assert (reporter.notes, trained.reward_model, run.state["reward_model"]) == ([], "newer", "newer")
    assert trained.config.policy.rewards["personalization"] == 0.1
    assert trained.config.policy.reward_model == "newer"


def test_a_newest_reward_model_with_a_closed_gate_has_no_weight(tiny_model, workspace, trained, reward_model):
    reporter = Notes()
    reward_model(workspace, "mine", "closed")

    train_policy(workspace, plain(tiny_model), reporter=reporter)

    assert reporter.notes == ["reward model mine did not pass its gate: its weight is 0"]
    assert (trained.reward_model, trained.config.policy.rewards) == (None, {"overlap": 1.0, "format": 0.1})


def test_a_named_reward_model_with_a_closed_gate_is_refused_unless_forced(tiny_model, workspace, trained, reward_model):
    reward_model(workspace, "mine", "closed")
    config = plain(tiny_model, "policy.reward_model=mine")

    with pytest.raises(RefusedError, match=r"reward model 'mine' did not pass its gate; .*--force uses it") as caught:
        train_policy(workspace, config)
    assert (caught.value.exit_code, workspace.latest("policy")) == (1, None)

    train_policy(workspace, config, force=True)
    assert trained.reward_model == "mine"


def test_a_named_reward_model_that_is_not_there_is_an_error(tiny_model, workspace, trained):
    with pytest.raises(DataError, match=r"no run 'mine'"):
        train_policy(workspace, plain(tiny_model, "policy.reward_model=mine"))


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
    config = plain(
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
    config = plain(
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
