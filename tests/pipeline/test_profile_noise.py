from __future__ import annotations

import random
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from safetensors.torch import load_file

from prlm_cli.core.records import Document, ProfileDocument, Retrieved
from prlm_cli.core.settings import RetrievalSettings
from prlm_cli.pipeline import train_policy as module
from prlm_cli.pipeline.policies import Policy, load_policy
from prlm_cli.pipeline.profile_noise import MAX_OTHERS, ProfileNoise, noisy, read_others
from prlm_cli.pipeline.retrieve import retrieve
from prlm_cli.pipeline.train_policy import train_policy
from prlm_cli.training import grpo
from tests.pipeline.policy_runs import interrupt
from tests.pipeline.small import Notes, asked, small
from tests.retrievers.corpora import documents, in_new_store, is_forbidden, queries
from tests.training.grpo_runs import lengths


def _records(*ids):
    return [ProfileDocument(doc_id=doc_id, text="t", rank=n) for n, doc_id in enumerate(ids, start=1)]


_RECORDS = st.integers(0, 6).map(lambda count: _records(*(f"best{n}" for n in range(count))))
_OTHERS = st.integers(0, 6).map(lambda count: _records(*(f"other{n}" for n in range(count))))


@given(_RECORDS, _OTHERS, st.integers(0, 10_000))
def test_a_noisy_profile_is_some_of_the_best_some_replaced_by_others(records, others, seed):
    found = noisy(records, others, random.Random(seed))

    ids = [record.doc_id for record in found]
    assert found == noisy(records, others, random.Random(seed))
    assert len(ids) == len({*ids}) <= len(records)
    assert {*ids} <= {record.doc_id for record in [*records[: len(ids)], *others]}
    assert [record.rank for record in found] == list(range(1, len(found) + 1))


def test_all_numbers_orders_and_replacements_come_up():
    drawn = [noisy(_records("a", "b", "c"), _records("x", "y"), random.Random(seed)) for seed in range(400)]
    ids = [[record.doc_id for record in found] for found in drawn]

    assert {len(found) for found in ids} == {0, 1, 2, 3}
    assert {tuple(found) for found in ids if "c" in found and not {*found} & {"x", "y"}} >= {
        *[("a", "b", "c"), ("c", "b", "a"), ("b", "a", "c")]
    }
    assert {len({*found} & {"x", "y"}) for found in ids if len(found) == 3} == {0, 1, 2}


def _query(query_id="q", user_id="u"):
    return Retrieved(query_id=query_id, user_id=user_id, text="t", profile=_records("a", "b", "c"), retriever="bm25")


def test_noise_comes_as_often_as_its_share_says_and_a_larger_share_adds_to_a_smaller():
    query = _query()

    def noisy_at(share):
        noise = ProfileNoise(share, {("u", "q"): _records("x")}, 3)
        return {time for time in range(1000) if noise(query, time) is not query}

    assert (noisy_at(0.0), noisy_at(1.0)) == (set(), set(range(1000)))
    assert 250 < len(noisy_at(0.3)) < 350
    assert noisy_at(0.3) <= noisy_at(0.6)


def test_what_is_shown_depends_on_seed_query_and_time_alone():
    others = {("u", "q"): _records("x"), ("u", "r"): _records("x")}

    def shown(seed, query_id):
        noise = ProfileNoise(1.0, others, seed)
        return [[record.doc_id for record in noise(_query(query_id), time).profile] for time in range(30)]

    assert shown(0, "q") == shown(0, "q")
    assert len({str(shown(*given)) for given in [(0, "q"), (1, "q"), (0, "r")]}) == 3
    assert len({str(one) for one in shown(0, "q")}) > 3


@settings(max_examples=10)
@given(data=st.data(), own=documents("u"), others=documents("v"), chosen=st.sampled_from(["drop", "keep"]))
def test_irrelevant_records_are_the_users_own_that_the_query_may_see(tmp_path_factory, data, own, others, chosen):
    query = data.draw(queries(own))
    retrieval = RetrievalSettings(undated=chosen, k=data.draw(st.integers(0, 4)))
    with in_new_store(tmp_path_factory.mktemp("store"), [*own, *others]) as store:
        (shown,) = retrieve(store, [query], retrieval)
        found = read_others(store, [shown], retrieval, seed=0)["u", query.query_id]

    seen = {d.doc_id for d in own if not is_forbidden(query, own, d.doc_id, keep_undated=chosen == "keep")}
    texts = {document.doc_id: document.text for document in own}
    assert {record.doc_id for record in found} == seen - {record.doc_id for record in shown.profile}
    assert all(record.text == texts[record.doc_id] for record in found)


def test_of_a_long_history_a_seeded_few_are_held(tmp_path):
    many = [Document(user_id="u", doc_id=f"d{n}", text=f"text {n}", date=n) for n in range(100)]
    asked = [structs.replace(_query(query_id), profile=[]) for query_id in ("q", "r")]
    with in_new_store(tmp_path, many) as store:
        one, same, other = (read_others(store, asked, RetrievalSettings(), seed=seed) for seed in (0, 0, 1))

    assert {len(records) for records in one.values()} == {MAX_OTHERS}
    assert one == same != other
    assert one["u", "q"] != one["u", "r"]


@pytest.fixture
def kept(monkeypatch):
    """The prompts that a training takes, in order, those it is judged on, and what its reward is asked of."""
    found = SimpleNamespace(order=[], prompts=[], scored=[], held_out=[])
    make = grpo.PolicyTrainer.__init__

    def keep_prompts(trainer, *, prompt_ids, train_dataset, **rest):
        found.order = list(train_dataset["prompt"])
        found.prompts = [prompt_ids[name] for name in found.order]
        make(trainer, prompt_ids=prompt_ids, train_dataset=train_dataset, **rest)

    def reward(*, completions, queries):
        found.scored += queries
        return lengths(completions=completions, queries=queries)

    monkeypatch.setattr(grpo.PolicyTrainer, "__init__", keep_prompts)
    monkeypatch.setattr(Policy, "stop_ids", list(range(0, 258, 4)))
    monkeypatch.setattr(module, "_rewards", lambda config, context: {"measure": (reward, 1.0)})
    monkeypatch.setattr(module, "_overlaps", lambda policy, queries, config: found.held_out.extend(queries) or [0.0])
    return found


def _config(model, share, *more):
    fields = ["warm_start.kind=none", "prompt.reasoning=off", "policy.steps=6", "policy.save_steps=1"]
    return small(model, *fields, f"policy.profile_noise={share}", *more)


def test_prompts_and_rewards_have_the_same_noise_and_held_out_queries_have_none(tiny_model, workspace, kept):
    config = _config(tiny_model, 1.0)
    with workspace.open_store() as store:
        clean = {query.query_id: query for split in ("train", "dev") for query in asked(store, config, split)}
    policy = load_policy(config, reporter=Notes())

    train_policy(workspace, config, reporter=Notes())

    assert len(kept.order) == 12  # six steps of two prompts: each of the six queries twice
    shown = kept.scored[:: config.policy.num_generations]
    assert kept.prompts == [policy.builder.build(query.text, query.profile).ids for query in shown]
    assert [query.query_id for query in shown] == [name.rpartition("#")[0] for name in kept.order]
    assert sum(query.profile != clean[query.query_id].profile for query in shown) > 6
    by_query = {}
    for query in shown:
        by_query.setdefault(query.query_id, []).append(query.profile)
    assert any(once != again for once, again in by_query.values())
    assert kept.held_out and all(query == clean[query.query_id] for query in kept.held_out)


def test_without_noise_prompts_are_those_of_the_queries(tiny_model, workspace, kept):
    config = _config(tiny_model, 0.0)
    with workspace.open_store() as store:
        clean = {query.query_id: query for query in asked(store, config)}

    train_policy(workspace, config, reporter=Notes())

    assert {*kept.order} == {*clean}
    assert all(query == clean[query.query_id] for query in kept.scored)


def test_an_interrupted_run_with_noise_ends_like_an_unbroken_one(tiny_model, workspace, kept, monkeypatch):
    config = _config(tiny_model, 0.5, "policy.steps=3", "policy.eval_queries=0")
    unbroken = train_policy(workspace, config, name="unbroken")
    order, prompts = kept.order, kept.prompts
    interrupt(workspace, config, monkeypatch)
    reporter = Notes()
    run = train_policy(workspace, config, reporter=reporter)

    assert reporter.notes[-1] == "went on from step 1"
    assert (kept.order, kept.prompts) == (order, prompts)
    expected, found = (load_file(r.adapter / "adapter_model.safetensors") for r in (unbroken, run))
    assert all(torch.allclose(found[name], expected[name], atol=1e-6) for name in expected)
