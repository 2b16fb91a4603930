from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prlm_cli.core import jsonl
from prlm_cli.core.errors import DataError
from prlm_cli.core.records import PreferencePair
from prlm_cli.pipeline import pairs as pairs_module
from prlm_cli.pipeline import train_reward as module
from prlm_cli.pipeline.train_reward import heldout_users, load_reward_model, train_reward
from prlm_cli.training import contrastive
from tests.pipeline.small import Notes, small


@pytest.fixture
def pairs():
    profile = [{"doc_id": "1", "text": "About trees.", "title": "Trees"}]
    fields = {"text": "We parse.", "profile": profile, "chosen": "Parsing trees", "rejected": "Speech"}
    other = {"swapped_user_id": "cem", "swapped_profile": [{"doc_id": "1", "text": "About speech.", "title": "Speech"}]}
    return [
        jsonl.validate(
            "", {"query_id": f"{user}-{n}", "user_id": user, "kind": "swapped", **fields, **other}, PreferencePair
        )
        for user in ("ada", "ben", "cem")
        for n in range(2)
    ]


def test_a_reward_model_is_trained_tested_and_kept(tiny_model, workspace):
    config = small(tiny_model, "prompt.reasoning=off")

    run = train_reward(workspace, config, reporter=Notes())

    assert (run.name, run.state["kind"], run.is_finished) == ("reward-1", "reward", True)
    assert run.metrics["gate"] in ("open", "closed")
    assert set(run.metrics["accuracy"]) <= set(config.pairs.kinds)
    assert run.metrics["heldout_users"] == 2
    assert workspace.latest("reward").name == "reward-1"
    steps = [json.loads(line) for line in run.log.read_text().splitlines()]
    assert [line["step"] for line in steps] == [1, 2]
    written = list(jsonl.read(run.folder / "pairs.jsonl", PreferencePair))
    assert written
    assert all(pair.swapped_user_id != pair.user_id for pair in written)


def test_given_pairs_are_used_and_no_answer_is_written(tiny_model, workspace, pairs, monkeypatch):
    monkeypatch.setattr(module, "pairs_for", None)

    run = train_reward(workspace, small(tiny_model), pairs=pairs, name="mine")

    assert (run.metrics["training_pairs"], run.metrics["heldout_users"]) == (2, 2)
    model = load_reward_model(run, Notes())
    items = [(pair.text, pair.profile, pair.chosen) for pair in pairs[:2]]
    assert model.scores(items) == model.scores(items)
    assert all(0 < reward < 1 for reward in model.rewards(items))
    assert model.sees_profile


@pytest.mark.parametrize("assignment", ["reward.profile=false", "model.qlora=true"])
def test_a_model_is_loaded_as_it_was_trained(tiny_model, workspace, pairs, assignment, monkeypatch):
    trained = []
    monkeypatch.setattr(module, "diagnose", lambda model, *_: (trained.append(model), ({"gate": "closed"}, [1.0]))[1])
    run = train_reward(workspace, small(tiny_model, assignment), pairs=pairs)

    loaded = load_reward_model(run, Notes())

    items = [(pair.text, pair.profile, answer) for pair in pairs[:1] for answer in ("Parsing trees", "Speech")]
    assert loaded.scores(items) == pytest.approx(trained[0].scores(items), abs=1e-5)
    assert loaded.sees_profile == (assignment != "reward.profile=false")


def test_the_users_of_the_test_are_not_trained_on(tiny_model, workspace, pairs, monkeypatch):
    seen = {}
    monkeypatch.setattr(
        contrastive, "train_contrastive", lambda model, training, *_, **__: seen.update(training=training)
    )
    monkeypatch.setattr(module, "diagnose", lambda model, test: (seen.update(test=test), ({}, []))[1])

    train_reward(workspace, small(tiny_model), pairs=pairs)

    assert {pair.user_id for pair in seen["training"]} == {"cem"}
    assert {pair.user_id for pair in seen["test"]} == {"ada", "ben"}


def test_the_share_of_held_out_users_is_about_as_set_and_the_same_in_every_run():
    users = [f"u{n}" for n in range(2000)]
    held_out = heldout_users(users, 0.2)

    assert len(held_out) == pytest.approx(400, abs=60)
    assert heldout_users(users, 0.1) < held_out
    assert heldout_users(users[::2], 0.2) == held_out & set(users[::2])


@given(st.sets(st.text(max_size=3), min_size=2, max_size=12), st.floats(0.01, 0.99))
def test_of_two_users_or_more_some_are_held_out_and_some_are_not(users, share):
    assert set() < heldout_users(users, share) < users


def test_one_user_is_too_few_and_that_is_known_before_anything_is_written(tiny_model, workspace, pairs, queries):
    with pytest.raises(DataError, match=r"a reward model needs two users: .*; index more users"):
        train_reward(workspace, small(tiny_model), pairs=[pair for pair in pairs if pair.user_id == "cem"])
    with pytest.raises(DataError, match=r"a reward model needs two users"):
        train_reward(workspace, small(tiny_model), queries=[query for query in queries if query.user_id == "cem"])
    assert workspace.runs() == []


def test_pairs_that_are_left_of_one_user_only_say_so(tiny_model, workspace, pairs, monkeypatch):
    monkeypatch.setattr(module, "pairs_for", lambda *_: [pair for pair in pairs if pair.user_id == "cem"])

    with pytest.raises(DataError, match=r"all pairs are of one user; .*; index more users"):
        train_reward(workspace, small(tiny_model, "prompt.reasoning=off"))


def test_an_interrupted_run_goes_on_with_the_pairs_it_had(tiny_model, workspace, monkeypatch):
    config, reporter = small(tiny_model, "prompt.reasoning=off", "pairs.policy=none"), Notes()
    with monkeypatch.context() as patch:
        patch.setattr(contrastive, "train_contrastive", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train_reward(workspace, config)
    monkeypatch.setattr(pairs_module, "candidates", None)

    run = train_reward(workspace, config, reporter=reporter)

    assert (run.name, run.is_finished) == ("reward-1", True)
    assert reporter.notes == ["going on with run reward-1"]


def test_a_run_that_is_not_to_go_on_is_a_new_one(tiny_model, workspace, pairs, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(contrastive, "train_contrastive", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train_reward(workspace, small(tiny_model), pairs=pairs)

    assert train_reward(workspace, small(tiny_model), pairs=pairs, resume=False).name == "reward-2"


def test_a_finished_run_of_that_name_is_not_replaced(tiny_model, workspace, pairs, monkeypatch):
    monkeypatch.setattr(contrastive, "train_contrastive", lambda *_, **__: None)
    train_reward(workspace, small(tiny_model), pairs=pairs, name="mine")

    with pytest.raises(DataError, match=r"run 'mine' exists; use another --name"):
        train_reward(workspace, small(tiny_model), pairs=pairs, name="mine")


def test_an_interrupted_run_of_other_pairs_is_not_gone_on_with(tiny_model, workspace, pairs, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(contrastive, "train_contrastive", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train_reward(workspace, small(tiny_model), pairs=pairs)

    assert train_reward(workspace, small(tiny_model), pairs=pairs[::-1][:4] + pairs[:1]).name == "reward-2"
    assert train_reward(workspace, small(tiny_model), pairs=pairs).name == "reward-1"
