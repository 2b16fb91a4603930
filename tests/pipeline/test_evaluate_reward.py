from __future__ import annotations

import json

import pytest
from msgspec import structs

from prlm_cli.core.configuration import resolve
from prlm_cli.core.errors import DataError
from prlm_cli.engines.hf import HfEngine
from prlm_cli.pipeline import evaluate_reward as evaluate_reward_module
from prlm_cli.pipeline.evaluate_reward import evaluate_reward, reward_run
from prlm_cli.pipeline.held_out import heldout_users, is_heldout_query
from prlm_cli.pipeline.queries import stored_queries
from prlm_cli.pipeline.train_reward import train_reward
from prlm_cli.training import contrastive
from tests.conftest import contents
from tests.pipeline.scorers import pairs_of
from tests.pipeline.small import small

PAIRS = pairs_of(users=8, queries=6)


@pytest.fixture
def run(tiny_model, workspace, monkeypatch):
    monkeypatch.setattr(contrastive, "train_contrastive", lambda *_, **__: 1)
    config = small(tiny_model, "prompt.reasoning=off", "reward.heldout_share=0.3", "reward.heldout_queries=0.4")
    return train_reward(workspace, config, pairs=PAIRS)


def _config(run, *assignments):
    base = resolve(config_file=run.folder / "config.toml")
    return resolve(base=base, assignments=["diagnostics.samples=0", *assignments])


def test_what_the_run_measured_is_measured_again(workspace, run):
    before = contents(workspace.folder)

    quality = evaluate_reward(workspace, run, _config(run))

    of_training = {name: run.metrics[name] for name in ("training_pairs", "steps")}
    assert of_training | quality.as_metrics() == run.metrics
    assert contents(workspace.folder) == before


def test_settings_of_the_run_say_what_was_held_out(workspace, run):
    quality = evaluate_reward(workspace, run, _config(run, "reward.heldout_share=0.9"))

    assert quality.users.pairs == run.metrics["diagnostics"]["users"]["pairs"]


def test_other_pairs_are_judged_on_whom_and_what_the_model_was_not_trained_on(workspace, run):
    users = {pair.user_id for pair in PAIRS}
    known = users - heldout_users(users, 0.3)
    strangers = [structs.replace(pair, user_id=f"new-{pair.user_id}") for pair in PAIRS[:12]]

    quality = evaluate_reward(workspace, run, _config(run), pairs=[*PAIRS, *strangers])

    scores = [(score.part, score.user_id, score.query_id) for score in quality.scores]
    assert len(known) < len(users)
    for part, user_id, query_id in scores:
        assert part == ("queries" if user_id in known else "users")
        assert user_id not in known or is_heldout_query(query_id, 0.4)
    assert len({user_id for _, user_id, _ in scores if user_id.startswith("new-")}) == 1


def test_completions_are_drawn_where_the_settings_say_so_and_never_twice(workspace, run, monkeypatch):
    config = _config(run, "diagnostics.samples=2", "diagnostics.queries=3")
    before = contents(run.folder)

    quality = evaluate_reward(workspace, run, config)

    assert [part.best_of_n.queries for part in quality.parts.values()] == [3, 3]
    assert [point.n for point in quality.users.best_of_n.curve] == [1, 2]
    assert contents(run.folder) == before
    monkeypatch.setattr(HfEngine, "complete", None)
    assert evaluate_reward(workspace, run, config).as_dict() == quality.as_dict()


def test_draws_are_kept_under_the_query_that_they_are_of(workspace, run):
    evaluate_reward(workspace, run, _config(run, "diagnostics.samples=2", "diagnostics.queries=3"))

    (cache,) = workspace.cache.glob("completions-*.jsonl")
    lines = [json.loads(line) for line in cache.read_text().splitlines()]
    with workspace.open_store() as store:
        known = {query.query_id for query in stored_queries(store, "train")} | {pair.query_id for pair in PAIRS}
    assert {line["query_id"] for line in lines} <= known  # where `forget` looks for them
    assert len({line["key"] for line in lines}) == len(lines) == 12


def test_a_run_without_its_pairs_says_so(workspace, run):
    (run.folder / "pairs.jsonl").unlink()

    with pytest.raises(DataError, match=r"run 'reward-1' has kept no pairs; train the reward model again"):
        evaluate_reward(workspace, run, _config(run))


def test_the_run_is_the_named_one_or_the_newest(workspace, run):
    assert reward_run(workspace, None).name == reward_run(workspace, "reward-1").name == run.name
    with pytest.raises(DataError, match=r"no run 'mine' in .*; did you mean|no run 'mine'"):
        reward_run(workspace, "mine")


def test_without_a_reward_model_there_is_nothing_to_judge(workspace):
    with pytest.raises(DataError, match=r"no reward model in .*; run `prlm train-reward` first"):
        reward_run(workspace, None)


def test_completions_are_drawn_for_queries_of_the_index_that_are_held_out_as_well(workspace, run, monkeypatch):
    known = {pair.user_id for pair in PAIRS}
    trained_on = known - heldout_users(known, 0.3)
    with workspace.open_store() as store:
        of_index = {query.query_id for query in stored_queries(store, "train") if query.user_id not in trained_on}
    asked = {}
    original = evaluate_reward_module.with_samples

    def with_samples(pairs, *arguments):
        asked[len(asked)] = {query.query_id for query in arguments[-1]}
        return original(pairs, *arguments)

    monkeypatch.setattr(evaluate_reward_module, "with_samples", with_samples)
    evaluate_reward(workspace, run, _config(run, "diagnostics.samples=2", "diagnostics.queries=1"))
    evaluate_reward(workspace, run, _config(run, "diagnostics.samples=2", "diagnostics.queries=1"), pairs=PAIRS)

    assert of_index
    assert asked == {0: of_index, 1: set(), 2: set(), 3: set()}
