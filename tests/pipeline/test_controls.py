from __future__ import annotations

import json

import pytest

from prlm_cli.core.errors import DataError
from prlm_cli.core.records import Generation, widen
from prlm_cli.core.reporting import Silent
from prlm_cli.pipeline.conditions import Condition, run_conditions
from prlm_cli.pipeline.controls import GAINS, gains, reasoning_controls, run_controls
from prlm_cli.pipeline.policies import load_policy
from tests.pipeline.small import asked, indexed, small
from tests.pipeline.stub_policies import CONFIG, Stub, newest_title, own_words, styled_users


@pytest.fixture
def styles(tmp_path):
    return styled_users(tmp_path)


def _run(workspace, answer, split="train"):
    with workspace.open_store() as store:
        queries = asked(store, CONFIG, split)
        return run_controls(store, queries, Stub(answer), CONFIG), queries


def test_copying_the_users_newest_title_shows_a_personalisation_gain(styles):
    found, _ = _run(styles, newest_title)

    for name in ("swapped", "swapped_near", "no_profile"):
        assert found[name].difference["rougeL"].difference.high < 0
    assert gains(found, "rougeL")["personalization gain"].low > 0
    assert list(gains(found, "rougeL")) == list(GAINS)
    assert found["shuffled"].difference["rougeL"].difference.mean == 0


def test_ignoring_the_profile_shows_no_gain(styles):
    found, _ = _run(styles, own_words)

    assert [result.name for result in found.results] == [
        *("own", "no_profile", "shuffled", "swapped", "swapped_near", "no_reasoning", "other_reasoning")
    ]
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


def test_other_reasoning_changes_nothing_for_a_policy_without_reasoning(styles):
    found, _ = _run(styles, newest_title)

    for name in ("no_reasoning", "other_reasoning"):
        assert found[name].generations == found["own"].generations
        assert found[name].difference["rougeL"].difference.mean == 0
    assert gains(found, "rougeL")["reasoning gain"].mean == 0


def test_a_given_thought_is_that_of_another_query_and_its_owner_is_kept(tiny_model, tmp_path):
    workspace = indexed(tmp_path)
    config = small(tiny_model, "prompt.reasoning=on")
    with workspace.open_store() as store:
        queries = asked(store, config)
        policy = load_policy(config, reporter=Silent())
        found = run_controls(store, queries, policy, config)

    own = {generation.query_id: generation for generation in found["own"].generations}
    users = {query.user_id for query in queries}
    assert len(users) > 1
    for generation in found["other_reasoning"].generations:
        sources = [
            g for g in own.values() if generation.completion.startswith(policy.builder.thought(g.reasoning or ""))
        ]
        assert any(source.query_id != generation.query_id for source in sources)
        owner = generation.profile_user_id or generation.user_id
        assert any(source.user_id == owner for source in sources)
        assert generation.reasoning == (sources[0].reasoning or "").strip()
    for generation in found["no_reasoning"].generations:
        assert generation.completion.startswith("\n</think>\nTitle:")
        assert not generation.reasoning


def test_a_thought_of_another_user_is_taken_only_where_the_user_has_no_other_query(styles):
    with styles.open_store() as store:
        queries = asked(store, CONFIG)
    generations = [
        widen(Generation, query, completion="", reasoning=f"about {query.query_id}", answer="a", policy="p", seed=0)
        for query in queries
    ]
    _, other = reasoning_controls(generations, queries, 0, reasons=True)
    alone = [g for n, g in enumerate(generations) if g.user_id not in {o.user_id for o in generations[:n]}]
    _, of_alone = reasoning_controls(alone, alone, 0, reasons=True)

    assert all(query.profile_user_id is None for query in other.queries)
    assert all(other.thoughts[query.query_id] != f"about {query.query_id}" for query in other.queries)
    assert all(query.profile_user_id not in (None, query.user_id) for query in of_alone.queries)


def test_a_single_query_has_no_other_thought(styles):
    with styles.open_store() as store:
        query = asked(store, CONFIG)[0]
    only = widen(Generation, query, completion="", reasoning="r", answer="a", policy="p", seed=0)

    assert reasoning_controls([only], [query], 0, reasons=True)[1].queries == []


def test_controls_of_one_user_are_refused(styles):
    with styles.open_store() as store:
        queries = [query for query in asked(store, CONFIG) if query.user_id == "u0"]
        with pytest.raises(DataError, match="another user's records need two users; index more users"):
            run_controls(store, queries, Stub(own_words), CONFIG)
