from __future__ import annotations

import json

import pytest

from prlm_cli.core.errors import DataError
from prlm_cli.pipeline.conditions import Condition, run_conditions
from prlm_cli.pipeline.controls import controls
from tests.pipeline.small import asked
from tests.pipeline.stub_policies import CONFIG, Stub, newest_title, own_words, styled_users


@pytest.fixture
def styles(tmp_path):
    return styled_users(tmp_path)


def _run(workspace, answer, split="train"):
    with workspace.open_store() as store:
        queries = asked(store, CONFIG, split)
        return run_conditions(controls(store, queries, CONFIG), "own", Stub(answer), CONFIG), queries


def test_copying_the_users_newest_title_shows_a_personalisation_gain(styles):
    found, _ = _run(styles, newest_title)

    for name in ("swapped", "swapped_near", "no_profile"):
        assert found[name].difference["rougeL"].difference.high < 0
    assert found["shuffled"].difference["rougeL"].difference.mean == 0


def test_ignoring_the_profile_shows_no_gain(styles):
    found, _ = _run(styles, own_words)

    assert {result.name for result in found.results} == {"own", "no_profile", "shuffled", "swapped", "swapped_near"}
    for result in found.results[1:]:
        interval = result.difference["rougeL"].difference
        assert (interval.mean, interval.low, interval.high) == (0, 0, 0)


def test_only_swapped_conditions_show_another_users_records(styles):
    found, _ = _run(styles, newest_title)

    for result in found.results:
        for generation in result.generations:
            other = generation.profile_user_id
            assert (other is not None) == result.name.startswith("swapped")
            assert all(record.doc_id.startswith(other or generation.user_id) for record in generation.profile)
            assert other != generation.user_id


def test_shuffled_records_are_the_same_ones(styles):
    found, queries = _run(styles, own_words)

    for generation, query in zip(found["shuffled"].generations, queries, strict=True):
        assert sorted(r.doc_id for r in generation.profile) == sorted(r.doc_id for r in query.profile)
    assert any(g.profile != q.profile for g, q in zip(found["shuffled"].generations, queries, strict=True))


def test_a_reference_without_queries_is_refused():
    with pytest.raises(DataError, match="no queries for the condition 'own'"):
        run_conditions([Condition("own", [])], "own", Stub(own_words), CONFIG)


def test_figures_are_json(styles):
    found, _ = _run(styles, newest_title)

    assert json.loads(json.dumps(found.as_dict()))["conditions"][1]["difference"]["rougeL"]["mean_b"] > 0.9
