from __future__ import annotations

import re

import pytest

from prlm_cli.core.configuration import resolve
from prlm_cli.core.errors import DataError, SettingsError
from prlm_cli.core.prompts import PromptBuilder
from prlm_cli.models.tokenization import TokenizerCodec
from prlm_cli.pipeline.completion_cache import completion_cache
from prlm_cli.pipeline.generate import generate
from prlm_cli.pipeline.policies import choose_policy, load_policy
from prlm_cli.pipeline.sources import retrieved_from
from prlm_cli.pipeline.train_policy import train_policy
from tests.conftest import tiny_corpus
from tests.pipeline.small import Notes, asked, indexed, small


@pytest.fixture(scope="module")
def trained(tiny_model, tmp_path_factory):
    """A workspace with a trained policy."""
    workspace = indexed(tmp_path_factory.mktemp("trained"))
    fields = ["warm_start.kind=none", "policy.eval_queries=0", "policy.steps=1", "retrieval.k=2"]
    train_policy(workspace, small(tiny_model, *fields), name="mine")
    return workspace


def _write(workspace, config, *, split="test", name="none", **options):
    chosen = choose_policy(workspace, name, lambda base: config, Notes())
    records = retrieved_from(workspace, chosen.config, path=None, split=split, user_id=None, text=None)
    return list(generate(records, chosen.load(Notes()), chosen.config, **options))


def test_each_query_gets_an_answer_in_its_place_with_all_its_fields(tiny_model, workspace):
    config = small(tiny_model, "generation.batch_size=2")
    with workspace.open_store() as store:
        queries = asked(store, config, "test")

    found = _write(workspace, config)

    assert [g.query_id for g in found] == [q.query_id for q in queries]
    for generation, query in zip(found, queries, strict=True):
        assert (generation.text, generation.target, generation.profile) == (query.text, query.target, query.profile)
        assert (generation.policy, generation.seed, generation.retriever) == ("untrained", 0, "bm25")
        assert generation.usage.completion_tokens <= 8
        assert generation.usage.records <= len(query.profile)


@pytest.mark.parametrize("temperature", ["0.0", "1.0"])
def test_answers_do_not_depend_on_the_batch_size(tiny_model, workspace, temperature):
    def write(batch_size):
        fields = (f"generation.batch_size={batch_size}", f"generation.temperature={temperature}")
        return [g.completion for g in _write(workspace, small(tiny_model, *fields), split="train")]

    assert write(1) == write(2) == write(16)


def test_answers_leave_before_all_queries_are_read(tiny_model, workspace):
    config = small(tiny_model, "generation.batch_size=1", "prompt.reasoning=off")
    read = []
    with workspace.open_store() as store:
        queries = asked(store, config)

    answers = generate((read.append(q) or q for q in queries), load_policy(config, reporter=Notes()), config)
    next(answers)

    assert len(read) == 1


@pytest.mark.parametrize("cached", [False, True], ids=["computed", "through the cache"])
def test_progress_is_reported_batch_by_batch(tiny_model, workspace, cached):
    done = []

    class Reporter(Notes):
        def stage(self, name):
            return lambda n, total=0, **_: done.append((name, n))

    config = small(tiny_model, "generation.batch_size=2", "prompt.reasoning=off")
    with completion_cache(workspace, load_policy(config, reporter=Notes()), Notes()) as cache:
        options = {"cache": cache} if cached else {}
        _write(workspace, config, split="train", reporter=Reporter(), stage="x", **options)

    assert done == [("x", 2), ("x", 4), ("x", 6)]


def test_no_queries_have_no_answers(tiny_model, workspace):
    chosen = choose_policy(workspace, "none", lambda base: small(tiny_model), Notes())

    assert list(generate([], chosen.load(Notes()), chosen.config)) == []


def test_what_was_cut_is_counted(tiny_model, workspace):
    short, long = (_write(workspace, small(tiny_model, f"prompt.max_tokens={n}"))[0].usage for n in (250, 2000))

    assert (long.records, long.records_cut) == (4, 0)
    assert short.records + short.records_cut >= 4
    assert short.prompt_tokens <= 250 < long.prompt_tokens


def test_a_query_that_is_cut_leaves_no_room_for_records_and_all_count_as_cut(tiny_model, workspace):
    usage = _write(workspace, small(tiny_model, "prompt.max_tokens=150"))[0].usage

    assert (usage.query_cut, usage.records, usage.records_cut, usage.prompt_tokens) == (True, 0, 4, 150)


def test_without_a_policy_the_base_model_answers_and_it_is_said_once(tiny_model, workspace):
    reporter = Notes()

    chosen = choose_policy(workspace, None, lambda base: small(tiny_model), reporter)

    assert (chosen.run, reporter.notes) == (None, ["no policy yet: using the base model"])


@pytest.mark.parametrize("name", [None, "mine"])
def test_a_run_is_followed_in_all_that_is_not_asked_otherwise(trained, name):
    reporter = Notes()

    chosen = choose_policy(trained, name, lambda base: resolve(base=base, assignments=["seed=7"]), reporter)

    assert (chosen.run.name, reporter.notes) == ("mine", [])
    assert (chosen.config.retrieval.k, chosen.config.prompt.reasoning, chosen.config.seed) == (2, "on", 7)
    assert chosen.load(reporter).name == "mine"


@pytest.mark.parametrize(
    "change", ["prompt.layout=document", "prompt.reasoning=off", "prompt.task=subjects", "prompt.max_tokens=300"]
)
def test_prompts_that_look_other_than_in_training_are_refused(trained, change):
    def choose(**options):
        return choose_policy(trained, "mine", lambda base: resolve(base=base, assignments=[change]), Notes(), **options)

    with pytest.raises(SettingsError, match=r"run 'mine' was trained with other prompts; --allow-prompt-drift"):
        choose().load(Notes())
    assert choose(allow_prompt_drift=True).load(Notes()).name == "mine"


def test_the_folder_of_an_adapter_is_a_policy_too(trained, tiny_model):
    adapter = trained.run("mine").adapter

    chosen = choose_policy(trained, str(adapter), lambda base: small(tiny_model), Notes())

    assert (chosen.run, chosen.load(Notes()).name) == (None, str(adapter))


def test_only_a_finished_policy_can_be_chosen(trained):
    run = trained.new_run("reward", "scorer")
    run.start("reward", "")
    run.finish({})

    with pytest.raises(DataError, match=r"run 'scorer' is not a finished policy"):
        choose_policy(trained, "scorer", lambda base: resolve(base=base), Notes())


@pytest.fixture
def shown(monkeypatch):
    """What was given to the prompt builder, and what was encoded, each as one text."""
    found = []
    build, encode = PromptBuilder.build, TokenizerCodec.encode

    def keep_built(builder, text, profile, card):
        found.append(" ".join([text, *(f"{record.title} {record.text}" for record in profile)]))
        return build(builder, text, profile, card)

    def keep_encoded(codec, prompt):
        found.append(" ".join(message.content for message in prompt.messages))
        return encode(codec, prompt)

    monkeypatch.setattr(PromptBuilder, "build", keep_built)
    monkeypatch.setattr(TokenizerCodec, "encode", keep_encoded)
    return found


@pytest.mark.parametrize("retriever", ["bm25", "recency", "random"])
def test_no_prompt_holds_a_word_of_another_user(tiny_model, tmp_path, shown, retriever):
    def marked(record):
        canary = f"CANARY-{record['user_id']}"
        return {**record, **{k: f"{canary} {record[k]}" for k in ("text", "title", "target") if k in record}}

    # Every user has a document of the same id and nearly the same text, so that a mix-up would be found.
    shared = [{"user_id": u, "doc_id": "same", "text": "parsing", "title": "x", "date": "2023-01-01"} for u in "ab"]
    workspace = indexed(tmp_path, map(marked, [*shared, *tiny_corpus()]))
    shown.clear()

    found = _write(workspace, small(tiny_model, f"retrieval.retriever={retriever}", "retrieval.k=8"))

    assert len(found) == 3
    canaries = [set(re.findall(r"CANARY-[a-z]{3}", text)) for text in shown]
    assert {frozenset(c) for c in canaries if c} == {frozenset({f"CANARY-{user}"}) for user in ("ada", "ben", "cem")}
    for generation in found:
        assert {f"CANARY-{generation.user_id}"} == set(re.findall(r"CANARY-[a-z]{3}", str(generation.profile)))
