from __future__ import annotations

from itertools import product
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from prlm_cli.core import jsonl
from prlm_cli.core.configuration import resolve
from prlm_cli.core.errors import DataError, SettingsError
from prlm_cli.core.records import Generation, widen
from prlm_cli.core.settings import PAIR_KINDS, PairsSettings
from prlm_cli.engines.hf import HfEngine
from prlm_cli.metrics.rouge import rouge
from prlm_cli.models import loading
from prlm_cli.pipeline import best_of_n, stand_ins
from prlm_cli.pipeline import candidates as module
from prlm_cli.pipeline.candidates import candidates
from prlm_cli.pipeline.given_pairs import read_pairs
from prlm_cli.pipeline.held_out import heldout_users
from prlm_cli.pipeline.neighbours import Neighbours
from prlm_cli.pipeline.pairs import build_pairs, kinds_in_use, pair_policy, pairs
from prlm_cli.pipeline.train_reward import train_reward
from prlm_cli.training import contrastive
from tests.conftest import tiny_corpus
from tests.pipeline.small import Notes, asked, indexed, small

_ALL = "pairs.kinds=" + repr(list(PAIR_KINDS))
_GREEDY_KINDS = [kind for kind in PairsSettings().kinds if kind != "best>worst"]
_GREEDY = f"pairs.kinds={_GREEDY_KINDS}"


@pytest.fixture
def store(tmp_path):
    with indexed(tmp_path).open_store() as store:
        yield store


@pytest.fixture
def answers(monkeypatch):
    """Answers by rule instead of a model: the best record's title. `answers.append` another rule to change it."""
    rules = [lambda query: query.profile[0].title if query.profile else "nothing known"]

    def generate(queries, policy, config, *, temperature, reporter, stage, cache, draws=1):
        assert (temperature, draws) in ((0.0, 1), (config.pairs.temperature, config.pairs.samples))
        for query, draw in product(queries, range(draws)):
            answer = f"{query.target} {'and more ' * draw}" if draws > 1 else rules[-1](query)
            yield widen(Generation, query, completion=str(answer), reasoning=None, answer=answer, policy="p", seed=0)

    monkeypatch.setattr(module, "generate", generate)
    monkeypatch.setattr(best_of_n, "generate", generate)
    return rules


def _built(store, *assignments, queries=None, reporter=None):
    config = resolve(assignments=["pairs.length_skew=1", *assignments])
    kinds = {name for kind in kinds_in_use(config.pairs) for name in kind.split(">")}
    planned = candidates(store, asked(store, config) if queries is None else queries, kinds, config)
    return build_pairs(planned, None, config, reporter or Notes())


def _pairs(store, *assignments, queries=None):
    return _built(store, *assignments, queries=queries).pairs


def test_each_query_gives_a_pair_of_each_kind(store, answers):
    found = _pairs(store, _GREEDY)
    queries = {query.query_id: query for query in asked(store, resolve())}

    assert [pair.kind for pair in found] == _GREEDY_KINDS * 6
    for pair in found:
        query = queries[pair.query_id]
        assert (pair.user_id, pair.text, pair.profile) == (query.user_id, query.text, query.profile)
        assert (pair.target, pair.margin) == (query.target, 0.0)
        assert pair.chosen == (query.target if pair.kind.startswith("target") else query.profile[0].title)
        if pair.kind == "own>zero_shot":
            assert (pair.rejected, pair.swapped_user_id, pair.swapped_profile) == ("nothing known", None, [])
        else:
            assert pair.swapped_user_id in {"ada", "ben", "cem"} - {pair.user_id}
            assert pair.rejected == pair.swapped_profile[0].title


def test_every_kind_can_be_built(store, answers):
    found = _pairs(store, _ALL)

    assert {pair.kind for pair in found} == set(PAIR_KINDS)
    for pair in found:
        needs_another = any(kind in pair.kind for kind in ("swapped", "neighbour"))
        assert (pair.swapped_user_id is not None, bool(pair.swapped_profile)) == (needs_another, needs_another)


def test_the_draws_that_are_most_like_the_target_stand_against_those_that_are_least(store, answers):
    found = _pairs(store, "pairs.kinds=['best>worst']", "pairs.samples=5")

    assert len(found) == 6 * 2
    for best, second in zip(found[::2], found[1::2], strict=True):
        assert best.query_id == second.query_id
        assert [pair.chosen.count("and more") for pair in (best, second)] == [0, 1]
        assert [pair.rejected.count("and more") for pair in (best, second)] == [4, 3]


@given(st.lists(st.sampled_from(["deep trees", "deep", "trees of deep thought", "x", None]), max_size=7))
def test_of_two_draws_the_better_one_is_chosen_and_equals_are_no_pair(written):
    of = {"query_id": "q", "user_id": "ada", "text": "t", "profile": [], "retriever": "bm25", "policy": "p", "seed": 0}
    drawn = [Generation(**of, completion="c", reasoning=None, answer=answer) for answer in written]

    found = module._best_and_worst(drawn, "deep trees")

    assert len(found["best"]) == len(found["worst"]) == max(1, len([answer for answer in written if answer]) // 2)
    for best, worst in zip(found["best"], found["worst"], strict=True):
        is_better = mean(rouge(best.text, "deep trees")) > mean(rouge(worst.text, "deep trees"))
        assert is_better or best.text == worst.text


def test_the_swapped_records_are_the_other_users_own(store, answers):
    for pair in _pairs(store, _ALL):
        if pair.swapped_user_id:
            theirs = [document.text for document in store.documents(pair.swapped_user_id)]
            assert {document.text for document in pair.swapped_profile} <= set(theirs)


def test_a_near_answer_is_of_the_user_who_asked_what_is_most_like_the_query(store, answers):
    queries = asked(store, resolve())
    neighbours = Neighbours(queries, store.tokenizer)
    nearest = {query.query_id: next(neighbours.of(query)) for query in queries}
    kinds = ["own>swapped_near", "target>neighbour"]

    found = _pairs(store, f"pairs.kinds={kinds}")

    assert [pair.kind for pair in found] == kinds * 6
    for pair in found:
        neighbour = nearest[pair.query_id]
        assert pair.swapped_user_id == neighbour.user_id != pair.user_id
        assert pair.swapped_query_id == (neighbour.query_id if ">n" in pair.kind else None)
        assert pair.rejected == (neighbour.target if ">n" in pair.kind else pair.swapped_profile[0].title)


@pytest.mark.parametrize("is_old_enough", [False, True])
def test_a_near_user_without_a_record_that_is_old_enough_is_passed_over(tmp_path, answers, is_old_enough):
    record = {"user_id": "dan", "text": "We look.", "title": "Early", "date": "2022" if is_old_enough else "2030"}
    query = {"query_id": "twin", "user_id": "dan", "target": "Late", "date": "2031", "split": "train"}
    text = next(record["text"] for record in tiny_corpus() if record.get("query_id") == "ada-q9")
    with indexed(tmp_path, [*tiny_corpus(), record, {**query, "text": text}]).open_store() as store:
        found = _pairs(store, "pairs.kinds=['target>neighbour']", "reward.heldout_share=0.05")  # ben

    (pair,) = [pair for pair in found if pair.query_id == "ada-q9"]
    assert (pair.swapped_user_id == "dan") is is_old_enough
    assert (pair.rejected == "Late") is is_old_enough
    assert ("Early" in [shown.title for shown in pair.swapped_profile]) is is_old_enough


@pytest.mark.parametrize("share", [0.2, 0.6])
def test_another_user_stands_in_on_the_same_side_of_the_reward_models_split(tmp_path, answers, share):
    twins = {"ada": "dan", "ben": "eli", "cem": "fay"}
    records = [
        {**record, "user_id": user, **{key: f"{user}-{record[key]}" for key in ("doc_id", "query_id") if key in record}}
        for record in tiny_corpus()
        for user in (record["user_id"], twins[record["user_id"]])
    ]
    with indexed(tmp_path, records).open_store() as store:
        found = _pairs(store, _ALL, f"reward.heldout_share={share}")
    held_out = heldout_users([*twins, *twins.values()], share)

    assert 2 <= len(held_out) <= 4
    assert {pair.swapped_user_id in held_out for pair in found if pair.swapped_user_id} == {True, False}
    for pair in found:
        assert pair.swapped_user_id is None or (pair.swapped_user_id in held_out) == (pair.user_id in held_out)


def test_where_nobody_stands_in_there_is_no_such_pair_and_that_is_counted(tmp_path, answers):
    first = {"query_id": "first", "user_id": "ada", "text": "trees", "target": "x", "date": "2020", "split": "train"}
    old = {"user_id": "ada", "doc_id": "old", "text": "grammars", "title": "Trees", "date": "2019"}
    with indexed(tmp_path, [*tiny_corpus(), old, first]).open_store() as store:
        built = _built(store, _GREEDY)

    assert [pair.kind for pair in built.pairs if pair.query_id == "first"] == ["own>zero_shot"]
    assert {kind: reasons["alone"] for kind, reasons in built.left_out.items()} == {
        kind: int("swapped" in kind) for kind in _GREEDY_KINDS
    }


def test_without_swapped_pairs_nobody_elses_records_are_read(store, answers, monkeypatch):
    def forbidden(*_, **__):
        raise AssertionError("another user's records were read")

    monkeypatch.setattr(stand_ins, "swapped_profile", forbidden)
    monkeypatch.setattr(module, "Neighbours", forbidden)

    found = _pairs(store, _ALL, "pairs.swapped=false")

    of_own = {"own>zero_shot", "target>own", "target>zero_shot", "zero_shot>own", "best>worst"}
    assert {pair.kind for pair in found} == of_own
    assert not [pair for pair in found if pair.swapped_user_id or pair.swapped_profile]


def test_where_all_kinds_need_another_user_and_there_is_to_be_none_nothing_is_left(store, answers):
    with pytest.raises(SettingsError, match=r"pairs\.kinds: all of them need another user"):
        _built(store, "pairs.kinds=['own>swapped']", "pairs.swapped=false")


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        (lambda query: "The  same" if query.profile else "the same ", "equal"),
        (lambda query: "readable" if query.profile else None, "unreadable"),
        (lambda query: None if query.profile else "readable", "unreadable"),
    ],
    ids=["equal", "rejected", "chosen"],
)
def test_what_is_no_pair_is_counted_by_its_reason(store, answers, rule, reason):
    answers.append(rule)
    reporter = Notes()

    built = _built(store, "pairs.kinds=['own>zero_shot', 'target>zero_shot', 'target>own']", reporter=reporter)

    assert built.left_out["own>zero_shot"] == {"equal": 0, "unreadable": 0, "alone": 0, "length": 0, reason: 6}
    assert sum(built.as_dict()["kinds"][kind]["pairs"] for kind in built.left_out) == len(built.pairs) > 0
    assert reporter.notes[0].startswith(f"{len(built.pairs)} pairs; left out: ")


def test_lengths_are_balanced_kind_by_kind_and_what_goes_is_counted(store, answers):
    answers.append(lambda query: "a long one" if bool(query.profile) != (query.query_id == "ada-q9") else "short")
    reporter = Notes()

    built = _built(store, "pairs.length_skew=0.1", "pairs.kinds=['own>zero_shot']", reporter=reporter)

    assert built.left_out["own>zero_shot"]["length"] == 3
    assert built.as_dict() == {
        "pairs": 3,
        "queries": 3,
        "users": len({pair.user_id for pair in built.pairs}),
        "kinds": {"own>zero_shot": {"pairs": 3, "equal": 0, "unreadable": 0, "alone": 0, "length": 3}},
    }
    assert reporter.notes == ["3 pairs; left out: 3 to balance the lengths"]


def test_where_all_answers_are_equal_there_is_nothing_to_learn(store, answers):
    answers.append(lambda query: "the same")

    with pytest.raises(DataError, match=r"no pair has a contrast: 6 with equal answers; use more queries"):
        _built(store, _GREEDY, "pairs.swapped=false")


def test_queries_without_records_are_passed_over(store, answers):
    queries = asked(store, resolve())
    bare = [replace(query, profile=[]) for query in queries[:4]]

    found = _pairs(store, queries=[*bare, *queries[4:]])

    assert {pair.query_id for pair in found} == {query.query_id for query in queries[4:]}


def test_where_no_query_has_records_that_is_said(store, answers):
    with pytest.raises(DataError, match=r"no training query has records of its user; index documents that are older"):
        _built(store, "retrieval.k=0")


def test_swapped_pairs_need_two_users(store, answers):
    alone = [query for query in asked(store, resolve()) if query.user_id == "ada"]

    with pytest.raises(DataError, match=r"swapped pairs need two users; .*--set pairs\.swapped=false"):
        _built(store, queries=alone)
    assert _pairs(store, "pairs.swapped=false", queries=alone)


def test_a_kind_that_is_named_twice_counts_once(store, answers):
    once, twice = (_pairs(store, f"pairs.kinds={['own>zero_shot'] * n}") for n in (1, 2))

    assert once == twice


def test_the_seed_chooses_the_queries(store, answers):
    chosen = [
        {pair.query_id for pair in _pairs(store, "pairs.max_queries=2", f"seed={seed}")} for seed in (0, 0, 1, 2, 3)
    ]

    assert all(len(ids) == 2 for ids in chosen)
    assert chosen[0] == chosen[1]
    assert len(set(map(frozenset, chosen))) > 1


def test_the_paper_has_one_kind_of_pairs_and_keeps_them_all():
    settings = resolve(preset="paper").pairs

    assert (settings.kinds, settings.policy, settings.length_skew) == (["own>zero_shot"], "none", 1.0)


@pytest.fixture
def computed(monkeypatch):
    """How many completions each batch of the engine computed."""
    sizes, complete = [], HfEngine._complete_batch

    def keep(engine, prompts, keys):
        sizes.append(len(prompts))
        return complete(engine, prompts, keys)

    monkeypatch.setattr(HfEngine, "_complete_batch", keep)
    return sizes


def test_what_was_generated_is_not_generated_again_and_gives_the_same_pairs(tiny_model, workspace, computed):
    config = small(tiny_model, "generation.batch_size=4")
    plain = pairs(workspace, config, resume=False).pairs
    assert sum(computed) == 36 and not list(workspace.cache.glob("*.jsonl"))
    computed.clear()

    assert pairs(workspace, config).pairs == plain
    assert sum(computed) == 36
    assert pairs(workspace, config).pairs == plain
    assert sum(computed) == 36


@pytest.mark.parametrize("stop_after", range(1, 5))
def test_interrupted_after_any_batch_the_same_again_computes_the_rest_only(
    tiny_model, workspace, computed, monkeypatch, stop_after
):
    config = small(tiny_model, "generation.batch_size=4", "pairs.kinds=['target>zero_shot', 'best>worst']")
    plain = pairs(workspace, config, resume=False).pairs
    computed.clear()
    complete = HfEngine._complete_batch

    def stop(engine, prompts, keys):
        if len(computed) == stop_after:
            raise KeyboardInterrupt
        return complete(engine, prompts, keys)

    with monkeypatch.context() as patch:
        patch.setattr(HfEngine, "_complete_batch", stop)
        with pytest.raises(KeyboardInterrupt):
            pairs(workspace, config)
    assert computed == [4] * stop_after

    assert pairs(workspace, config).pairs == plain
    assert computed == [4, 4, 4, 4, 2]


def test_more_queries_ask_only_for_what_is_new(tiny_model, workspace, computed):
    kinds = "pairs.kinds=['target>zero_shot', 'target>swapped']"
    few, more = (small(tiny_model, kinds, "generation.batch_size=1", f"pairs.max_queries={count}") for count in (3, 6))
    pairs(workspace, few)
    assert sum(computed) == 6

    found = pairs(workspace, more).pairs

    assert sum(computed) == 12
    assert found == pairs(workspace, more, resume=False).pairs


def test_what_is_wrong_with_the_queries_is_known_before_a_model_loads(tiny_model, workspace, queries, monkeypatch):
    monkeypatch.setattr(loading, "load_base", None)
    alone = [query for query in queries if query.user_id == "ada"]

    with pytest.raises(DataError, match=r"swapped pairs need two users"):
        pairs(workspace, small(tiny_model), queries=alone)
    with pytest.raises(DataError, match=r"no training queries"):
        pairs(workspace, small(tiny_model), queries=[])
    assert not workspace.cache.exists()


def test_a_run_learns_from_the_very_pairs_that_are_written(tiny_model, workspace, tmp_path, monkeypatch):
    config = small(tiny_model, "prompt.reasoning=off")
    jsonl.write(tmp_path / "pairs.jsonl", pairs(workspace, config).pairs)
    with workspace.open_store() as store:
        written = read_pairs(tmp_path / "pairs.jsonl", store)
    monkeypatch.setattr(contrastive, "train_contrastive", lambda *_, **__: None)

    run = train_reward(workspace, config)

    assert (run.folder / "pairs.jsonl").read_bytes() == (tmp_path / "pairs.jsonl").read_bytes()
    assert written == pairs(workspace, config, resume=False).pairs


def test_a_policy_that_is_no_finished_one_is_named(tiny_model, workspace):
    workspace.new_run("policy", "mine").start("policy", "")

    with pytest.raises(DataError, match=r"run 'mine' is not a finished policy"):
        pairs(workspace, small(tiny_model, "pairs.policy=mine"))


@pytest.mark.parametrize(
    ("policy", "reasoning", "is_warm"),
    [("auto", "off", True), ("auto", "on", False), ("warm-start", "on", True), ("none", "off", False)],
)
def test_who_writes_where_nobody_is_named_hangs_on_the_reasoning(tiny_model, workspace, policy, reasoning, is_warm):
    config = small(tiny_model, f"pairs.policy={policy}", f"prompt.reasoning={reasoning}")
    with workspace.open_store() as store:
        writer = pair_policy(workspace, asked(store, config), config, Notes())

    assert writer.name.startswith("warm-start-") == is_warm
    assert writer.builder.reasoning == (is_warm and reasoning == "on")
