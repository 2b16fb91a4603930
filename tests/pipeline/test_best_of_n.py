from __future__ import annotations

import math
from itertools import combinations
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from prlm_cli.core.reporting import Silent
from prlm_cli.pipeline.best_of_n import Candidate, best_of_n, sample, with_samples
from prlm_cli.pipeline.policies import load_policy
from tests.pipeline.scorers import pairs_of
from tests.pipeline.small import asked, small

_CANDIDATES = st.builds(Candidate, st.floats(-3, 3), st.floats(0, 1))
_QUERIES = st.lists(st.lists(_CANDIDATES, min_size=4, max_size=4), min_size=2, max_size=4)


@given(_QUERIES)
def test_the_curve_is_that_of_all_draws(candidates):
    found = best_of_n(candidates, [f"u{n}" for n in range(len(candidates))], 1.0, resamples=100)

    def over_draws(n, figure, key):
        drawn = [mean(figure(max(of, key=key)) for of in combinations(query, n)) for query in candidates]
        return mean(drawn)

    unique = all(len({c.score for c in query}) == 4 for query in candidates)
    for point in found.curve:
        assert point.oracle == pytest.approx(over_draws(point.n, lambda c: c.rouge_l, lambda c: c.rouge_l))
        assert point.random == pytest.approx(mean(c.rouge_l for query in candidates for c in query))
        assert point.gain.mean == pytest.approx(point.rouge_l - point.random)
        if unique:  # of equal scores, `max` takes the first and the curve the mean
            assert point.rouge_l == pytest.approx(over_draws(point.n, lambda c: c.rouge_l, lambda c: c.score))
            assert point.reward == pytest.approx(
                over_draws(point.n, lambda c: 1 / (1 + math.exp(-c.score)), lambda c: c.score)
            )
    assert found.lost.mean >= 0
    assert found.peak in {point.n for point in found.curve}


@pytest.fixture
def config(tiny_model):
    return small(tiny_model, "prompt.reasoning=off", "diagnostics.samples=3", "diagnostics.queries=2")


@pytest.fixture
def policy(config):
    return load_policy(config, reporter=Silent())


def _texts(found):
    return [[generation.completion for generation in group] for group in found]


def test_a_draw_is_the_same_in_any_batch_and_among_more(workspace, config, policy):
    with workspace.open_store() as store:
        queries = asked(store, config)[:3]

    def drawn(of, n, size=16):
        sized = structs.replace(config, generation=structs.replace(config.generation, batch_size=size))
        return sample(of, policy, sized, n, temperature=1.0, reporter=Silent())

    found = drawn(queries, 4)

    assert [[g.query_id for g in group] for group in found] == [[q.query_id] * 4 for q in queries]
    assert all(len(set(group)) == 4 for group in _texts(found))
    assert _texts(drawn(queries, 4, size=3)) == _texts(found)
    assert _texts(drawn(queries[::-1], 4)) == _texts(found)[::-1]
    assert _texts(drawn(queries, 2)) == [group[:2] for group in _texts(found)]


def test_completions_are_drawn_for_as_many_queries_as_the_settings_say(config, policy):
    pairs = pairs_of(users=4)

    part = with_samples(pairs, policy, config, Silent())

    assert part.pairs == pairs
    assert [len(group) for group in part.samples] == [3, 3]
    by_query = {pair.query_id: pair for pair in pairs}
    for group in part.samples:
        pair = by_query[group[0].query_id]
        assert {(g.user_id, g.text, g.target) for g in group} == {(pair.user_id, pair.text, pair.target)}
    assert with_samples(pairs[::-1], policy, config, Silent()).samples == part.samples


def test_nothing_is_drawn_where_that_is_not_asked_for_or_no_target_is_known(config, policy):
    pairs = pairs_of(users=4)
    off = structs.replace(config, diagnostics=structs.replace(config.diagnostics, samples=0))
    unknown = [structs.replace(pair, target=None) for pair in pairs]

    assert with_samples(pairs, policy, off, Silent()).samples == ()
    assert with_samples(pairs, None, config, Silent()).samples == ()
    assert with_samples(unknown, policy, config, Silent()).samples == ()
