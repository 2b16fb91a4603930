from __future__ import annotations

import json
import math
import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from prlm_cli.core.errors import DataError
from prlm_cli.models.scorer import Item
from prlm_cli.pipeline.pair_scores import Part, score_pairs
from prlm_cli.pipeline.reward_quality import HEADLINE, reward_quality
from tests.pipeline.scorers import (
    BLIND,
    CONSTANT,
    LENGTH_LOVER,
    PERFECT,
    WRONG_WAY_ROUND,
    Scorer,
    by_rouge,
    noise,
    pairs_of,
    sampled,
)

PAIRS = pairs_of()
NONE = Part([])
_FEW = {"resamples": 100}


def _users(scorer, pairs=PAIRS, samples=(), **fields):
    return reward_quality(scorer, users=Part(pairs, samples), queries=NONE, **(_FEW | fields))


@pytest.mark.parametrize(
    ("scorer", "gate", "own_over_swapped", "without_profile", "with_anothers", "interaction"),
    [
        (PERFECT, "open", 1.0, 0.5, 0.0, 1.0),
        (WRONG_WAY_ROUND, "closed", 0.0, 0.5, 1.0, 0.0),
        (LENGTH_LOVER, "closed", 0.0, 0.0, 0.0, 0.0),
        (CONSTANT, "closed", 0.5, 0.5, 0.5, 0.0),
    ],
    ids=["perfect", "wrong way round", "length lover", "constant"],
)
def test_the_figures_tell_scorers_apart(scorer, gate, own_over_swapped, without_profile, with_anothers, interaction):
    quality = _users(scorer)
    part = quality.users

    assert quality.gate == gate
    assert part.model.accuracy.kinds[HEADLINE].mean == own_over_swapped
    assert part.ablation.removed.kinds[HEADLINE].mean == without_profile
    assert part.ablation.swapped.kinds[HEADLINE].mean == with_anothers
    assert part.model.interaction.overall.mean == interaction
    assert list(part.model.interaction.kinds) == ["own>swapped", "target>swapped"]


def test_a_model_that_sees_no_profile_has_no_interaction_at_all():
    part = _users(BLIND).users

    assert (part.model.interaction.overall.mean, part.model.max_abs_interaction) == (0, 0.0)
    assert part.ablation.removed == part.model.accuracy
    assert 0 < part.model.accuracy.overall.mean < 1


def test_the_interaction_is_that_of_its_formula():
    scorer = noise(1)

    scored = score_pairs(scorer, Part(PAIRS))

    assert len(scored.interactions) == 80
    for pair, found in zip(scored.swapped.pairs, scored.interactions, strict=True):
        asked = [(of, answer) for of in (pair.profile, pair.swapped_profile) for answer in (pair.chosen, pair.rejected)]
        chosen, rejected, others, anothers = scorer.scores([Item(pair.text, *shown) for shown in asked])
        assert found == pytest.approx(chosen - rejected - others + anothers)


def test_good_answers_and_good_profiles_are_no_fit():
    def apart(item):
        return 3.0 * (not item.answer.endswith("was so")) + sum(len(record.doc_id) for record in item.profile)

    quality = _users(Scorer(apart))

    assert quality.users.model.accuracy.kinds[HEADLINE].mean == 1
    assert (quality.gate, quality.users.model.max_abs_interaction) == ("closed", 0)


def test_equal_scores_count_half_so_that_a_rule_and_its_opposite_come_to_one():
    controls = _users(PERFECT).users.controls

    for kind, share in controls["shorter"].accuracy.kinds.items():
        assert share.mean + controls["longer"].accuracy.kinds[kind].mean == pytest.approx(1)
    assert controls["shorter"].interaction.overall.mean == 0


@pytest.mark.parametrize(
    ("scorer", "pairs", "verdict"),
    [
        (
            PERFECT,
            pairs_of(titled=False),
            "measures fit with the user: own over swapped 1.00 [0.84, 1.00] on 20 unseen users; beats the echo rule"
            " (0.50); gate open",
        ),
        (
            PERFECT,
            PAIRS,
            "measures fit with the user: own over swapped 1.00 [0.84, 1.00] on 20 unseen users; is no better than the"
            " echo rule (1.00); gate open",
        ),
        (
            LENGTH_LOVER,
            PAIRS,
            "does not tell one user's records from another's: its interaction is 0 for every pair; gate closed",
        ),
        (
            WRONG_WAY_ROUND,
            PAIRS,
            "does not measure fit with the user: interaction 0.00 [0.00, 0.16] on 20 unseen users; gate closed",
        ),
        (
            PERFECT,
            [pair for pair in PAIRS if pair.kind == "own>zero_shot"],
            "not known: no pair has another user's records; gate closed",
        ),
    ],
    ids=["beats the rule", "no better", "blind", "wrong", "nothing to test on"],
)
def test_the_verdict_is_one_line_in_plain_words(scorer, pairs, verdict):
    assert _users(scorer, pairs).verdict == verdict


def test_a_model_that_the_rule_beats_is_said_to_be_beaten():
    lazy = Scorer(lambda item: 0.0 if item.text.endswith("3") else PERFECT.scores([item])[0])

    quality = _users(lazy, pairs_of(queries=4))

    assert quality.gate == "open"
    assert "is beaten by the echo rule (1.00)" in quality.verdict
    assert quality.users.above_echo.mean == -0.125


def test_noise_does_not_pass_the_gate():
    few = pairs_of(users=30, queries=1, titled=False)

    opened = sum(_users(noise(seed), few).gate == "open" for seed in range(100))

    assert opened <= 5


def test_without_held_out_users_the_gate_stays_closed():
    quality = reward_quality(PERFECT, users=NONE, queries=Part(PAIRS), **_FEW)

    assert (quality.gate, quality.users) == ("closed", None)
    assert quality.queries.model.interaction.overall.mean == 1
    assert quality.verdict == "not known: no pair is of a held-out user; gate closed"
    assert quality.as_metrics()["interaction"] is None


def test_a_lover_of_length_is_found_out():
    length = _users(LENGTH_LOVER).users.length

    assert (length.score, length.margin) == (pytest.approx(1), pytest.approx(1))
    # Of the same length, within a word, are none of own>swapped (4 and 6 words) and all of target>swapped (7 and 6).
    assert (length.matched.mean, length.matched.n) == (1, 40)
    assert length.gap == pytest.approx(1 - 1 / 3)
    assert length.gap_within_kinds == 0


def test_fit_with_the_user_owes_nothing_to_length_where_the_lengths_are_the_same():
    length = _users(PERFECT).users.length

    assert abs(length.score) < 0.9
    assert length.gap == 0


def test_without_matched_pairs_there_is_no_gap():
    length = _users(PERFECT, [pair for pair in PAIRS if pair.kind == HEADLINE]).users.length

    assert (length.matched, length.gap, length.gap_within_kinds) == (None, None, None)


@pytest.mark.parametrize(("sign", "rho"), [(1, 1.0), (-1, -1.0)])
def test_the_correlation_with_rouge_is_taken_within_each_query(sign, rho):
    within = _users(by_rouge(sign, PAIRS)).users.within_query

    assert (within.spearman.mean, within.kendall.mean) == (rho, rho)
    assert (within.spearman.n, within.spearman.users) == (40, 20)


def test_the_target_itself_is_no_candidate():
    pairs = [pair for pair in PAIRS if pair.kind != "own>zero_shot"]  # leaves own, swapped and the target

    assert _users(PERFECT, pairs).users.within_query is None


def test_a_score_that_does_not_tell_answers_apart_has_no_correlation_with_rouge():
    assert _users(CONSTANT).users.within_query.spearman.mean == 0


def _samples(pairs):
    """Four answers a query, the better the longer, one of them unreadable."""
    chosen = {pair.query_id: pair for pair in pairs}
    return [
        sampled(pair, [None, "nothing of it", *(" ".join(pair.target.split()[:n]) for n in (2, 5))])
        for pair in chosen.values()
    ]


def _best_of(sign):
    found = _users(by_rouge(sign, PAIRS), samples=_samples(PAIRS)).users.best_of_n
    assert (found.samples, found.queries, found.users) == (4, 40, 20)
    assert [point.n for point in found.curve] == [1, 2, 4]
    assert all(b.reward >= a.reward for a, b in pairwise(found.curve))
    return found


def test_who_knows_the_best_answer_gains_all_that_the_oracle_gains():
    found = _best_of(1)

    assert found.curve[0].gain.mean == 0
    assert found.curve[-1].gain.low > 0
    assert [point.oracle_share for point in found.curve] == [None, pytest.approx(1), pytest.approx(1)]
    assert (found.peak, found.lost.mean) == (4, 0)


def test_where_the_reward_rises_and_rouge_falls_the_curve_says_from_where():
    found = _best_of(-1)

    assert found.curve[-1].gain.high < 0
    assert found.peak < 4
    assert found.lost.low > 0


def test_what_cannot_be_read_is_chosen_last():
    # All others score the same: what is gained over a random choice is that these can be read.
    last = _best_of(0).curve[-1]

    assert last.rouge_l == pytest.approx(last.random * 4 / 3)


def test_the_blind_twin_is_judged_on_the_same_pairs():
    part = _users(PERFECT, blind=BLIND).users

    assert list(part.controls) == ["echo", "shorter", "longer", "blind"]
    twin = part.controls["blind"]
    assert (twin.max_abs_interaction, twin.accuracy) == (0, _users(BLIND).users.model.accuracy)


def test_the_temperature_is_fitted_on_the_held_out_queries_where_there_are_any():
    sure = Scorer(lambda item: 8.0 * PERFECT.scores([item])[0])
    queries = [structs.replace(pair, user_id="known", chosen=pair.rejected, rejected=pair.chosen) for pair in PAIRS]

    alone = reward_quality(sure, users=Part(PAIRS), queries=NONE, **_FEW)
    both = reward_quality(sure, users=Part(PAIRS), queries=Part(queries), **_FEW)
    given = reward_quality(sure, users=Part(PAIRS), queries=NONE, temperature=3.0, **_FEW)

    assert (alone.temperature, both.temperature, given.temperature) == (0.25, 16, 3)
    assert alone.users.calibration.ece < both.users.calibration.ece


def test_all_that_a_model_is_asked_about_a_part_is_asked_at_once():
    calls = []

    class Counting:
        def scores(self, items):
            calls.append(items)
            return LENGTH_LOVER.scores(items)

    _users(Counting(), samples=_samples(PAIRS))

    assert len(calls) == 1


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_score_that_is_no_finite_number_is_an_error(bad):
    with pytest.raises(DataError, match="scores that are no finite numbers"):
        _users(Scorer(lambda item: bad))


def test_no_pairs_at_all_are_an_error():
    with pytest.raises(DataError, match=r"no held-out pairs .*; give pairs of more users"):
        _users(PERFECT, [])


@given(st.randoms(use_true_random=False))
def test_the_order_of_the_pairs_changes_nothing(rng: random.Random):
    few = pairs_of(users=4)
    shuffled = rng.sample(few, len(few))

    assert _users(noise(0), shuffled).as_dict() == _users(noise(0), few).as_dict()


def test_figures_of_one_user_are_json_with_ends_that_are_not_known():
    one = [pair for pair in PAIRS if pair.user_id == "u0"]

    text = json.dumps(_users(by_rouge(1, one), one).as_metrics(), allow_nan=False)

    assert json.loads(text)["diagnostics"]["users"]["within_query"]["spearman"]["low"] is None


def test_a_run_keeps_the_key_figures_where_they_were():
    metrics = _users(PERFECT).as_metrics()

    assert (metrics["gate"], metrics["heldout_users"]) == ("open", 20)
    assert list(metrics["accuracy"]) == ["own>swapped", "own>zero_shot", "target>swapped"]
    low = pytest.approx(0.839, abs=1e-3)
    assert metrics["accuracy"][HEADLINE] == {"mean": 1.0, "low": low, "high": 1.0, "n": 40, "users": 20}
    assert metrics["interaction"]["n"] == 80
    assert set(metrics["diagnostics"]) == {"verdict", "gate", "temperature", "users", "queries"}


def test_each_pair_has_its_margin_and_where_it_can_its_interaction():
    scores = _users(PERFECT).scores

    assert len(scores) == len(PAIRS)
    by_kind = {score.kind: (score.part, score.margin, score.interaction) for score in scores}
    assert by_kind == {
        "own>zero_shot": ("users", 1, None),
        "own>swapped": ("users", 1, 2),
        "target>swapped": ("users", 1, 2),
    }
