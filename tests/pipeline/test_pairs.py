from __future__ import annotations

import pytest
from msgspec.structs import replace

from prlm_cli.core.errors import DataError
from prlm_cli.core.records import Generation, widen
from prlm_cli.core.reporting import Silent
from prlm_cli.core.settings import resolve
from prlm_cli.pipeline import pairs as module
from prlm_cli.pipeline.pairs import build_pairs
from tests.pipeline.small import asked, indexed


@pytest.fixture
def store(tmp_path):
    with indexed(tmp_path).open_store() as store:
        yield store


@pytest.fixture
def answers(monkeypatch):
    """Answers by rule instead of a model: the best record's title. `answers.append` another rule to change it."""
    rules = [lambda query: query.profile[0].title if query.profile else "nothing known"]

    def generate(queries, policy, config, *, temperature, reporter, stage):
        assert temperature == 0.0
        for query in queries:
            answer = rules[-1](query)
            yield widen(Generation, query, completion=str(answer), reasoning=None, answer=answer, policy="p", seed=0)

    monkeypatch.setattr(module, "generate", generate)
    return rules


def _build(store, *assignments, queries=None):
    config = resolve(assignments=assignments)
    return build_pairs(store, asked(store, config) if queries is None else queries, None, config, Silent())


def test_each_query_gives_a_pair_of_each_kind(store, answers):
    pairs = _build(store)
    queries = {query.query_id: query for query in asked(store, resolve())}

    assert {kind: sum(pair.kind == kind for pair in pairs) for kind in ("zero_shot", "swapped", "target")} == {
        "zero_shot": 6,
        "swapped": 6,
        "target": 6,
    }
    for pair in pairs:
        query = queries[pair.query_id]
        assert (pair.user_id, pair.text, pair.profile) == (query.user_id, query.text, query.profile)
        own, target = query.profile[0].title, query.target
        assert pair.chosen == (target if pair.kind == "target" else own)
        if pair.kind == "zero_shot":
            assert (pair.rejected, pair.swapped_user_id, pair.swapped_profile) == ("nothing known", None, [])
        else:
            assert pair.swapped_user_id in {"ada", "ben", "cem"} - {pair.user_id}
            assert pair.rejected == pair.swapped_profile[0].title


def test_the_swapped_records_are_the_other_users_own(store, answers):
    for pair in _build(store):
        if pair.swapped_user_id:
            theirs = [document.text for document in store.documents(pair.swapped_user_id)]
            assert {document.text for document in pair.swapped_profile} <= set(theirs)


def test_without_swapped_pairs_nobody_elses_records_are_read(store, answers, monkeypatch):
    def forbidden(*_, **__):
        raise AssertionError("another user's records were read")

    monkeypatch.setattr(module, "swapped_profile", forbidden)

    pairs = _build(store, "pairs.swapped=false")

    assert {pair.kind for pair in pairs} == {"zero_shot"}
    assert not [pair for pair in pairs if pair.swapped_user_id or pair.swapped_profile]


def test_answers_that_differ_in_case_and_space_only_are_no_pair(store, answers):
    answers.append(lambda query: "The  same" if query.profile else "the same ")

    assert {pair.kind for pair in _build(store)} == {"target"}


def test_answers_that_cannot_be_read_are_no_pair(store, answers):
    answers.append(lambda query: "readable" if query.profile else None)

    assert {pair.kind for pair in _build(store)} == {"target"}


def test_where_all_answers_are_equal_there_is_nothing_to_learn(store, answers):
    answers.append(lambda query: "the same")

    with pytest.raises(DataError, match=r"no pair has a contrast: all answers are equal"):
        _build(store, "pairs.swapped=false")


def test_queries_without_records_are_passed_over(store, answers):
    queries = asked(store, resolve())
    bare = [replace(query, profile=[]) for query in queries[:4]]

    assert {pair.query_id for pair in _build(store, queries=[*bare, *queries[4:]])} == {
        query.query_id for query in queries[4:]
    }


def test_swapped_pairs_need_two_users(store, answers):
    alone = [query for query in asked(store, resolve()) if query.user_id == "ada"]

    with pytest.raises(DataError, match=r"swapped pairs need two users; .*--set pairs\.swapped=false"):
        _build(store, queries=alone)
    assert _build(store, "pairs.swapped=false", queries=alone)


def test_the_seed_chooses_the_queries(store, answers):
    chosen = [
        {pair.query_id for pair in _build(store, "pairs.max_queries=2", f"seed={seed}")} for seed in (0, 0, 1, 2, 3)
    ]

    assert all(len(ids) == 2 for ids in chosen)
    assert chosen[0] == chosen[1]
    assert len(set(map(frozenset, chosen))) > 1
