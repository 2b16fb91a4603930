from __future__ import annotations

import pytest

from prlm_cli.core.errors import DataError
from prlm_cli.pipeline import baseline
from prlm_cli.pipeline.baseline import against_best_untrained
from prlm_cli.pipeline.layouts import Form
from prlm_cli.pipeline.policies import ChosenPolicy
from tests.pipeline.small import Notes, asked, indexed, small


@pytest.fixture
def measured(monkeypatch):
    """What the forms were measured on; the best is `turns` with two records."""
    calls = []

    def measure_forms(policy, queries, config, *, ks, reporter):
        calls.append([query.query_id for query in queries])
        return [Form("turns", 2, 0.5), Form("completion", 4, 0.4)]

    monkeypatch.setattr(baseline, "measure_forms", measure_forms)
    return calls


def test_the_policy_is_held_against_the_untrained_model_in_its_best_form(tiny_model, tmp_path, measured):
    workspace = indexed(tmp_path)
    config = small(tiny_model, "prompt.reasoning=off", 'eval.metrics=["rougeL"]')
    with workspace.open_store() as store:
        judged, dev = asked(store, config, "test"), asked(store, config, "dev")
        found = against_best_untrained(workspace, store, judged, ChosenPolicy(config), config, Notes())

    assert [result.name for result in found.results] == ["untrained, turns, k=2", "untrained"]
    assert found.reference == "untrained, turns, k=2"
    assert sorted(measured[0]) == sorted(query.query_id for query in dev)
    assert all(len(generation.profile) <= 2 for generation in found.results[0].generations)
    assert list(found.results[1].difference) == ["rougeL"]


def test_a_form_is_never_chosen_on_the_queries_that_are_judged(tiny_model, tmp_path, measured):
    workspace = indexed(tmp_path)
    config = small(tiny_model, "prompt.reasoning=off", 'eval.metrics=["rougeL"]')
    with workspace.open_store() as store:
        judged = asked(store, config, "dev")
        against_best_untrained(workspace, store, judged, ChosenPolicy(config), config, Notes())

    assert measured[0]
    assert not {query.query_id for query in judged} & set(measured[0])


def test_without_other_queries_there_is_no_baseline(tiny_model, tmp_path):
    workspace = indexed(tmp_path)
    config = small(tiny_model, "prompt.reasoning=off")
    with workspace.open_store() as store:
        judged = asked(store, config, "dev") + asked(store, config, "train")
        with pytest.raises(DataError, match="no dev or training queries to choose a baseline on"):
            against_best_untrained(workspace, store, judged, ChosenPolicy(config), config, Notes())
