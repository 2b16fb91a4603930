from __future__ import annotations

import json
from html import unescape

import pytest
from msgspec import structs

from prlm_cli.core import jsonl
from prlm_cli.core.configuration import resolve
from prlm_cli.core.errors import DataError, StorageError
from prlm_cli.core.records import PreferencePair
from prlm_cli.core.settings import ModelSettings
from prlm_cli.core.workspace import Workspace
from prlm_cli.models.reward_model import fit_temperature, load_temperature
from prlm_cli.models.scorer import Item
from prlm_cli.pipeline import pairs as pairs_module
from prlm_cli.pipeline import train_reward as module
from prlm_cli.pipeline.evaluate_reward import evaluate_reward
from prlm_cli.pipeline.policies import load_policy
from prlm_cli.pipeline.reward_models import Base, load_reward_model, twin_of
from prlm_cli.pipeline.train_reward import train_reward
from prlm_cli.training import contrastive
from prlm_cli.training.callbacks import Diverged
from tests.conftest import contents
from tests.models.tiny_encoders import write_cross_encoder
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
    assert run.metrics["steps"] == 2
    written = list(jsonl.read(run.folder / "pairs.jsonl", PreferencePair))
    assert written
    assert all(pair.swapped_user_id != pair.user_id for pair in written)


def test_the_preset_of_the_paper_trains_an_encoder_that_has_no_interaction(workspace, pairs, encoder):
    few = ["reward.steps=2", "reward.batch_size=4", "reward.heldout_queries=0", "reward.validation_share=0.5"]
    config = resolve(preset="paper", assignments=[f"reward.model={encoder}", *few])
    assert (config.reward.epochs, config.reward.learning_rate, config.reward.schedule) == (3, 5e-5, "linear")

    run = train_reward(workspace, config, pairs=pairs)

    assert (run.metrics["interaction"]["mean"], run.metrics["gate"]) == (0, "closed")
    assert run.metrics["validation_accuracy"] in (0, 1)  # of the only pair
    model = load_reward_model(run, Notes())
    scores = [
        model.scores([item._replace(profile=profile) for item in _items(pairs)]) for profile in ([], pairs[0].profile)
    ]
    assert scores[0] == scores[1]


def test_given_pairs_are_used_and_no_answer_is_written(tiny_model, workspace, pairs, monkeypatch):
    monkeypatch.setattr(module, "pairs_for", None)

    run = train_reward(workspace, small(tiny_model), pairs=pairs, name="mine")

    assert (run.metrics["training_pairs"], run.metrics["heldout_users"]) == (2, 2)
    model = load_reward_model(run, Notes())
    items = _items(pairs)
    assert model.scores(items) == model.scores(items)
    assert all(0 <= reward <= 1 for reward in model.rewards(items))
    assert model.sees_profile


def _items(pairs):
    return [Item(pair.text, pair.profile, answer) for pair in pairs for answer in (pair.chosen, pair.rejected)]


@pytest.fixture
def encoder(tmp_path):
    return write_cross_encoder(tmp_path / "encoder")


@pytest.mark.parametrize("kind", ["adapter", "4 bit", "blind", "encoder"])
def test_a_model_is_loaded_as_it_was_trained(tiny_model, workspace, pairs, kind, encoder, monkeypatch):
    assignment = {
        "adapter": "reward.margin=1",
        "4 bit": "model.qlora=true",
        "blind": "reward.profile=false",
        "encoder": f"reward.model={encoder}",
    }[kind]
    trained, train = [], contrastive.train_contrastive

    def keep(model, *rest, **options):
        trained.append(model)
        return train(model, *rest, **options)

    monkeypatch.setattr(contrastive, "train_contrastive", keep)
    run = train_reward(workspace, small(tiny_model, assignment), pairs=pairs)

    loaded = load_reward_model(run, Notes())

    assert loaded.scores(_items(pairs)) == pytest.approx(trained[0].scores(_items(pairs)), abs=1e-5)
    assert loaded.sees_profile == (kind != "blind")
    assert loaded.temperature == load_temperature(run.adapter)
    if kind == "blind":
        assert len(trained) == 1
    else:
        twin = load_reward_model(run, Notes(), blind=True)
        assert not twin.sees_profile
        assert twin.scores(_items(pairs)) == pytest.approx(trained[1].scores(_items(pairs)), abs=1e-5)


def test_the_blind_twin_learns_from_the_same_pairs_and_has_a_log_of_its_own(tiny_model, workspace, pairs, monkeypatch):
    seen, train = [], contrastive.train_contrastive

    def keep(model, training, *rest, **options):
        seen.append((model.sees_profile, training))
        return train(model, training, *rest, **options)

    monkeypatch.setattr(contrastive, "train_contrastive", keep)
    run = train_reward(workspace, small(tiny_model), pairs=pairs)

    assert [sees for sees, _ in seen] == [True, False]
    assert seen[0][1] == seen[1][1]
    for log in (run.log, twin_of(run).log):
        assert [json.loads(line)["step"] for line in log.read_text().splitlines()] == [1, 2]


@pytest.mark.parametrize("assignment", ["reward.twin=false", "reward.profile=false"])
def test_without_a_twin_there_is_none_to_load(tiny_model, workspace, pairs, assignment):
    run = train_reward(workspace, small(tiny_model, assignment), pairs=pairs)

    with pytest.raises(StorageError, match=r"run 'reward-1' holds no blind twin"):
        load_reward_model(run, Notes(), blind=True)


def test_a_twin_can_be_loaded_on_the_base_of_its_model(tiny_model, workspace, pairs):
    run = train_reward(workspace, small(tiny_model), pairs=pairs)
    model, apart = load_reward_model(run, Notes()), load_reward_model(run, Notes(), blind=True)
    expected = model.scores(_items(pairs))
    base = Base(tiny_model, ModelSettings(), model.network.model)

    twin = load_reward_model(run, Notes(), blind=True, base=base)

    assert twin.network.model is model.network.model
    assert twin.scores(_items(pairs)) == pytest.approx(apart.scores(_items(pairs)), abs=1e-5)
    assert model.scores(_items(pairs)) == expected


@pytest.mark.parametrize("other", ["folder", "bits", "precision", "encoder"])
def test_on_another_base_a_model_is_loaded_apart(tiny_model, workspace, pairs, other, encoder, tmp_path):
    assignments = [f"reward.model={encoder}"] if other == "encoder" else []
    run = train_reward(workspace, small(tiny_model, "reward.twin=false", *assignments), pairs=pairs)
    policy = load_policy(small(tiny_model, "prompt.reasoning=off"), trainable=True, reporter=Notes()).model
    folder = tmp_path if other == "folder" else tiny_model

    loaded_as = {"bits": ModelSettings(qlora=True), "precision": ModelSettings(precision="bf16")}
    base = Base(folder, loaded_as.get(other, ModelSettings()), policy)

    model = load_reward_model(run, Notes(), base=base)

    assert model.network.model is not policy
    assert list(policy.peft_config) == ["default"]


def test_an_interrupted_twin_goes_on_with_the_model_that_was_trained(tiny_model, workspace, pairs, monkeypatch):
    expected = train_reward(workspace, small(tiny_model), pairs=pairs, name="unbroken")
    train = contrastive.train_contrastive

    def killed(model, *rest, **options):
        if not model.sees_profile:
            raise KeyboardInterrupt
        return train(model, *rest, **options)

    with monkeypatch.context() as patch:
        patch.setattr(contrastive, "train_contrastive", killed)
        with pytest.raises(KeyboardInterrupt):
            train_reward(workspace, small(tiny_model), pairs=pairs)
    run = train_reward(workspace, small(tiny_model), pairs=pairs)

    assert (run.name, run.is_finished) == ("reward-1", True)
    for place in (lambda run: run, twin_of):
        files = [contents(place(r).adapter) for r in (expected, run)]
        assert files[0] == files[1]
    assert len(run.log.read_text().splitlines()) == 2  # nothing was trained twice


def test_the_paper_validates_on_a_share_of_the_pairs_it_does_not_train_on(tiny_model, workspace, pairs, monkeypatch):
    seen, train = [], contrastive.train_contrastive

    def keep(model, training, *rest, **options):
        seen.extend(training)
        return train(model, training, *rest, **options)

    monkeypatch.setattr(contrastive, "train_contrastive", keep)
    more = [structs.replace(pair, query_id=f"{pair.query_id}-{n}", text=f"{n}") for pair in pairs for n in range(5)]
    config = small(tiny_model, "reward.validation_share=0.3", "reward.heldout_queries=0", "reward.twin=false")

    run = train_reward(workspace, config, pairs=more)

    assert 0 <= run.metrics["validation_accuracy"] <= 1
    assert (len(seen), run.metrics["training_pairs"]) == (7, 7)  # of the 10 pairs of one user


def test_the_users_of_the_test_are_not_trained_on(tiny_model, workspace, pairs, monkeypatch):
    seen = {}
    train = contrastive.train_contrastive

    def keep(model, training, *rest, **options):
        seen["training"] = training
        return train(model, training, *rest, **options)

    monkeypatch.setattr(contrastive, "train_contrastive", keep)

    run = train_reward(workspace, small(tiny_model), pairs=pairs)

    assert {pair.user_id for pair in seen["training"]} == {"cem"}
    tested = run.metrics["diagnostics"]["users"]
    assert (tested["pairs"], tested["users"], run.metrics["diagnostics"]["queries"]) == (4, 2, None)


def test_the_run_keeps_its_verdict_its_pairs_and_a_page_about_it(tiny_model, workspace, pairs):
    run = train_reward(workspace, small(tiny_model), pairs=pairs)

    assert run.metrics["verdict"].endswith(f"gate {run.metrics['gate']}")
    assert f"reward-1 {run.metrics['verdict']}." in unescape((run.folder / "report.html").read_text())
    assert list(jsonl.read(run.folder / "pairs.jsonl", PreferencePair)) == pairs


def test_the_blind_twin_is_judged_beside_the_model(tiny_model, workspace, pairs):
    with_twin, without = (
        train_reward(workspace, small(tiny_model, f"reward.twin={twin}"), pairs=pairs).metrics["diagnostics"]["users"]
        for twin in ("true", "false")
    )

    assert with_twin["controls"]["blind"]["max_abs_interaction"] == 0
    assert with_twin["model"]["max_abs_interaction"] > 0
    assert "blind" not in without["controls"]


def test_the_temperature_is_fitted_on_held_out_queries_where_there_are_any(tiny_model, workspace, pairs):
    more = [structs.replace(pair, query_id=f"{pair.query_id}-{n}", text=f"{n}") for pair in pairs for n in range(5)]
    worse = [structs.replace(p, chosen=p.rejected, rejected=p.chosen) if p.user_id == "cem" else p for p in more]

    run = train_reward(workspace, small(tiny_model, "reward.heldout_queries=0.5", "reward.twin=false"), pairs=worse)

    found = run.metrics["diagnostics"]
    assert found["queries"]["pairs"] > 0
    margins = [score.margin for score in _scores(workspace, run) if score.part == "queries"]
    assert load_temperature(run.adapter) == found["temperature"] == fit_temperature(margins)


def _scores(workspace, run):
    config = resolve(base=resolve(config_file=run.folder / "config.toml"), assignments=["diagnostics.samples=0"])
    return evaluate_reward(workspace, run, config).scores


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
    assert workspace.runs() == []


def test_pairs_without_a_contrast_are_left_out_and_some_must_have_one(tiny_model, workspace, pairs):
    equal = [structs.replace(pair, rejected=f"  {pair.chosen.upper()} ") for pair in pairs]
    reporter = Notes()

    with pytest.raises(DataError, match=r"none of the 6 pairs has a contrast: its answers are equal"):
        train_reward(workspace, small(tiny_model), pairs=equal)
    assert workspace.runs() == []

    run = train_reward(workspace, small(tiny_model), pairs=[*equal, *pairs], reporter=reporter)
    assert reporter.notes == ["left out 6 pairs whose answers are equal"]
    assert run.metrics["training_pairs"] == 2


def test_a_split_that_leaves_nothing_to_train_on_is_known_before_anything_is_written(tiny_model, workspace, pairs):
    with pytest.raises(DataError, match=r"of 6 pairs none is left to train on; bring more of them"):
        train_reward(workspace, small(tiny_model, "reward.heldout_queries=0.999999"), pairs=pairs)
    assert workspace.runs() == []


def test_pairs_that_are_built_and_cannot_be_used_leave_no_run(tiny_model, workspace):
    config = small(tiny_model, "prompt.reasoning=off", "pairs.policy=none", "reward.heldout_queries=0.999999")
    with pytest.raises(DataError, match="none is left to train on"):
        train_reward(workspace, config)
    assert workspace.runs() == []


def test_a_loss_that_is_not_finite_leaves_no_reward_model(tiny_model, workspace, pairs):
    config = small(tiny_model, "reward.learning_rate=1e30", "reward.warmup=0", "reward.steps=8")

    with pytest.raises(Diverged, match=r"is not finite at step \d; lower the learning rate"):
        train_reward(workspace, config, pairs=pairs)
    assert workspace.latest("reward") is None
    assert not workspace.run("reward-1").adapter.exists()


def test_pairs_that_somebody_brings_need_no_index(tiny_model, pairs, tmp_path):
    run = train_reward(Workspace(tmp_path / "w"), small(tiny_model, "reward.twin=false"), pairs=pairs)

    assert run.is_finished


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


def test_a_finished_run_of_that_name_is_not_replaced(tiny_model, workspace, pairs):
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
