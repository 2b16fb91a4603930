from __future__ import annotations

import pytest

from prlm_cli.core.errors import SettingsError
from prlm_cli.pipeline.attacks import ATTACKS, CANARY, attacks, changes
from prlm_cli.pipeline.conditions import run_conditions
from tests.pipeline.small import asked
from tests.pipeline.stub_policies import CONFIG, Stub, newest_title, own_words, styled_users


@pytest.fixture
def attacked(tmp_path):
    workspace = styled_users(tmp_path)

    def run(answer, names=tuple(ATTACKS)):
        with workspace.open_store() as store:
            queries = asked(store, CONFIG)
            conditions = run_conditions(attacks(store, queries, names, CONFIG), "own", Stub(answer), CONFIG)
        return conditions, changes(conditions, CONFIG)

    return run


def test_a_policy_that_ignores_the_records_never_changes_its_answer(attacked):
    _, found = attacked(own_words)

    assert list(found) == list(ATTACKS)
    for change in found.values():
        assert (change.changed.mean, change.similarity.mean) == (0, 1)
    assert (found["injection"].obeyed.mean, found["swap"].followed.mean) == (0, 0)


def test_a_policy_that_copies_a_title_follows_the_exchanged_case(attacked):
    _, found = attacked(newest_title, ["swap", "dup", "shuffle"])

    assert found["swap"].followed.mean > 0.9
    assert found["swap"].changed.mean == 1
    assert found["dup"].changed.mean == found["shuffle"].changed.mean == 0


def test_obeying_a_planted_instruction_is_seen(attacked):
    _, found = attacked(lambda text, profile: CANARY if any(CANARY in r.text for r in profile) else "plain")

    assert found["injection"].obeyed.mean == found["injection"].changed.mean == 1
    assert found["dup"].obeyed is None


def test_only_user_swap_shows_another_users_records(attacked):
    conditions, _ = attacked(own_words)

    for result in conditions.results:
        for generation in result.generations:
            owner = generation.profile_user_id or generation.user_id
            assert (owner != generation.user_id) == (result.name == "user-swap")
            assert all(record.doc_id.startswith((owner, "pad")) for record in generation.profile)


def test_enrich_keeps_the_records_and_adds_some(attacked):
    conditions, _ = attacked(own_words, ["enrich"])

    for own, more in zip(conditions["own"].generations, conditions["enrich"].generations, strict=True):
        assert more.profile[: len(own.profile)] == own.profile
    assert any(len(g.profile) > CONFIG.retrieval.k for g in conditions["enrich"].generations)


def test_an_unknown_attack_is_refused(attacked):
    with pytest.raises(SettingsError, match="no attack 'swop'"):
        attacked(own_words, ["swop"])
