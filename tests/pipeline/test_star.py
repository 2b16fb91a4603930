from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from prlm_cli.core.errors import DataError, SettingsError
from prlm_cli.core.prompts import PromptBuilder
from prlm_cli.core.records import Usage
from prlm_cli.engines.hf import HfEngine
from prlm_cli.metrics.rouge import Rouge
from prlm_cli.models.adapters import save_adapter
from prlm_cli.pipeline import star
from prlm_cli.pipeline.policies import Policy, load_policy
from prlm_cli.pipeline.star import choose
from prlm_cli.pipeline.warm_start import warm_start
from prlm_cli.tasks import TASKS
from tests.core.codecs import ByteCodec
from tests.pipeline.generations import TARGET, generation
from tests.pipeline.small import Notes, small

_DIRECT = PromptBuilder(TASKS["titles"], "completion", False, 500, ByteCodec())
_REASONS = PromptBuilder(TASKS["titles"], "completion", True, 500, ByteCodec())
_GOOD, _HALF, _BAD = "net: fix a leak", "fix a leak", "readme"


def _written(completion, builder=_DIRECT, number=0, truncated=False):
    usage = Usage(prompt_tokens=9, completion_tokens=9, records=0, truncated=truncated)
    parsed = builder.parse(completion)
    fields = {"completion": completion, "answer": parsed.answer, "reasoning": parsed.reasoning, "usage": usage}
    return generation(number, **fields)


def _kept(greedy, samples, builder=_DIRECT):
    found = choose([_written(greedy, builder)], [[_written(text, builder) for text in samples]], builder)
    return [one.completion for one in found.kept]


@pytest.mark.parametrize(
    ("greedy", "samples", "kept"),
    [
        (_BAD, [_BAD, _HALF, _GOOD, _HALF], [_GOOD]),
        (_HALF, [_BAD, _GOOD], [_GOOD]),
        (_BAD, [_BAD, _HALF], [_HALF]),
        (_GOOD, [_BAD, _GOOD], []),  # it writes this anyway
        (_HALF, [_BAD, _HALF], []),
        (_BAD, [_BAD, _BAD], []),
        (_BAD, [f"<think>why</think>{_GOOD}", _HALF], [_HALF]),  # of a form that was not asked for
    ],
)
def test_the_best_sample_of_a_query_is_kept_if_it_beats_the_greedy_answer(greedy, samples, kept):
    assert _kept(greedy, samples) == kept


@pytest.mark.parametrize(
    ("greedy", "samples", "kept"),
    [
        (f"why</think>{_BAD}", [f"so</think>{_HALF}", f"because</think>{_GOOD}"], [f"because</think>{_GOOD}"]),
        (_GOOD, [f"so</think>{_HALF}", _GOOD], [f"so</think>{_HALF}"]),  # a thought that is never closed is worth 0
        (f"why</think>{_BAD}", [f"</think>{_GOOD}", f"a</think>b</think>{_GOOD}"], []),
    ],
)
def test_a_sample_that_is_to_reason_must_have_the_form(greedy, samples, kept):
    assert _kept(greedy, samples, _REASONS) == kept


def test_a_sample_that_was_cut_off_is_not_imitated():
    samples = [_written(_GOOD, truncated=True), _written(_HALF)]

    assert choose([_written(_BAD)], [samples], _DIRECT).kept == samples[1:]


def test_the_figures_are_means_over_what_was_drawn():
    drawn = [[_written(_BAD), _written(_GOOD)], [_written(_BAD, number=1), _written(_BAD, number=1)]]

    found = choose([_written(_BAD), _written(_BAD, number=1)], drawn, _DIRECT)

    assert found.figures == {
        "queries": 2,
        "samples": 4,
        "sample_score": pytest.approx(1 / 4),
        "greedy_score": 0.0,
        "kept_score": pytest.approx(1.0),
    }
    assert [one.query_id for one in found.kept] == ["q0"]


_RANKS = {"": 0, "<think>": 0, _BAD: 0, "fix": 1, _HALF: 2, _GOOD: 3}
_TEXTS = st.sampled_from(list(_RANKS))


@given(st.lists(st.tuples(_TEXTS, st.lists(_TEXTS, min_size=1, max_size=4)), min_size=1, max_size=4))
def test_each_query_that_sampling_helps_has_its_best_sample_kept_and_no_other_has_any(written):
    greedy = [_written(text, number=n) for n, (text, _) in enumerate(written)]
    drawn = [[_written(text, number=n) for text in texts] for n, (_, texts) in enumerate(written)]

    kept = {one.query_id: _RANKS[one.completion] for one in choose(greedy, drawn, _DIRECT).kept}

    best = {f"q{n}": max(_RANKS[text] for text in texts) for n, (_, texts) in enumerate(written)}
    assert kept == {f"q{n}": best[f"q{n}"] for n, (text, _) in enumerate(written) if best[f"q{n}"] > _RANKS[text]}


@pytest.fixture
def lively(monkeypatch):
    """A random model writes nothing like the target: completions that end, and are worth the more the longer."""
    monkeypatch.setattr(Policy, "stop_ids", list(range(0, 258, 4)))
    monkeypatch.setattr(star, "rouge", lambda answer, target: Rouge(*[len(answer) / 100] * 3))


@pytest.fixture
def batches(monkeypatch):
    """The batches of prompts that a model completes."""
    found = []
    complete = HfEngine._complete_batch

    def counted(engine, prompts, keys):
        found.append(keys)
        return complete(engine, prompts, keys)

    monkeypatch.setattr(HfEngine, "_complete_batch", counted)
    return found


def _star(model, *assignments):
    few = ("warm_start.samples=4", "warm_start.temperature=2.0", "generation.batch_size=4")
    return small(model, "prompt.reasoning=off", "warm_start.kind=star", *few, *assignments)


def test_the_best_samples_are_what_the_policy_is_trained_on(tiny_model, workspace, queries, lively, rows):
    config = _star(tiny_model)

    run = warm_start(workspace, queries, config, "star", Notes())

    policy = load_policy(config, reporter=Notes())
    by_id = sorted(queries, key=lambda query: query.query_id)
    best = star.best_samples(workspace, by_id, config, None, Notes())
    assert 0 < len(best.kept) == len(rows[0]) == run.metrics["examples"]
    for sample, example in zip(best.kept, rows[0], strict=True):
        completion = policy.tokenizer.decode(example.completion_ids[:-1])
        assert policy.builder.parse(completion).answer == sample.answer
        assert example.prompt_ids == policy.builder.build(sample.text, sample.profile).ids
    assert run.metrics.items() >= best.figures.items()
    assert (run.metrics["queries"], run.metrics["samples"]) == (6, 24)
    assert run.metrics["kept_score"] > run.metrics["sample_score"] > 0
    assert len(run.state["trained_on"]) == len({sample.user_id for sample in best.kept})


def test_the_reasoning_of_a_sample_is_imitated_with_it(tiny_model, workspace, queries, rows, monkeypatch):
    config = _star(tiny_model, "prompt.reasoning=on")
    builder = load_policy(config, reporter=Notes()).builder
    kept = [_written("They are short.\n</think>\nTitle: A \n title", builder)]
    found = star.BestSamples(kept, 1, 4, 0.1, 0.0, 0.2)
    monkeypatch.setattr("prlm_cli.pipeline.warm_start.best_samples", lambda *_: found)

    warm_start(workspace, queries, config, "star", Notes())

    tokenizer = load_policy(config, reporter=Notes()).tokenizer
    assert tokenizer.decode(rows[0][0].completion_ids[:-1]) == "They are short.\n</think>\nTitle: A"


def test_no_more_queries_are_asked_than_the_settings_say(tiny_model, workspace, queries, lively, rows):
    run = warm_start(workspace, queries, _star(tiny_model, "warm_start.max_queries=3"), "star", Notes())

    assert (run.metrics["queries"], run.metrics["samples"]) == (3, 12)


def test_nothing_is_generated_twice_where_it_was_interrupted(tiny_model, workspace, queries, lively, batches):
    config = _star(tiny_model)
    whole = warm_start(workspace, queries, config, "star", Notes())
    expected, unbroken = (whole.adapter / "adapter_model.safetensors").read_bytes(), sorted(map(tuple, batches))
    workspace.remove(whole)
    for cache in workspace.cache.glob("completions-*.jsonl"):
        cache.unlink()
    batches.clear()

    complete = HfEngine._complete_batch

    def stopped(engine, prompts, keys):
        if len(batches) in (1, 5):
            batches.append(None)
            raise KeyboardInterrupt
        return complete(engine, prompts, keys)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HfEngine, "_complete_batch", stopped)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                warm_start(workspace, queries, config, "star", Notes())
            assert workspace.runs() == []
        run = warm_start(workspace, queries, config, "star", Notes())

    assert (run.adapter / "adapter_model.safetensors").read_bytes() == expected
    assert sorted(tuple(batch) for batch in batches if batch) == unbroken


def test_where_no_sample_is_worth_anything_there_is_no_warm_start(tiny_model, workspace, queries, rows):
    with pytest.raises(
        DataError, match=r"star: none of 24 samples is worth more than the greedy answer; raise warm_st"
    ):
        warm_start(workspace, queries, _star(tiny_model), "star", Notes())

    assert (workspace.runs(), rows) == ([], [])


def test_a_run_can_draw_the_samples_of_the_next_round(tiny_model, workspace, queries, lively, batches):
    first = warm_start(workspace, queries, _star(tiny_model, "warm_start.learning_rate=1e-2"), "star", Notes())
    before = len(batches)

    again = warm_start(workspace, queries, _star(tiny_model, f"warm_start.policy={first.name}"), "star", Notes())

    assert again.name != first.name
    assert len(batches) == 2 * before  # another policy writes, and reads nothing in the cache of the first
    assert len(list(workspace.cache.glob("completions-*.jsonl"))) == 2


def test_the_writer_must_be_a_run_that_was_trained_with_the_same_prompts(tiny_model, workspace, queries, lively, rows):
    with pytest.raises(DataError, match="no run 'nobody'"):
        warm_start(workspace, queries, _star(tiny_model, "warm_start.policy=nobody"), "star", Notes())

    writer = workspace.new_run("policy", "other")
    writer.start("policy", "")
    writer.finish({"prompt_hash": "another"})
    save_adapter(load_policy(_star(tiny_model), trainable=True, reporter=Notes()).model, writer.adapter)
    with pytest.raises(SettingsError, match="run 'other' was trained with other prompts; give it the same settings"):
        warm_start(workspace, queries, _star(tiny_model, "warm_start.policy=other"), "star", Notes())


def test_other_ways_to_draw_make_another_warm_start(tiny_model, workspace, queries, lively, rows):
    def name(*assignments, queries=queries):
        config = _star(tiny_model, "warm_start.max_queries=2", *assignments)
        return warm_start(workspace, queries, config, "star", Notes()).name

    names = [
        name(),
        name("warm_start.samples=3"),
        name("warm_start.temperature=1.5"),
        name("warm_start.max_queries=3"),
        name("generation.max_new_tokens=7"),
        name("seed=1"),
        name(queries=[replace(queries[0], target=TARGET), *queries[1:]]),
    ]

    assert len(set(names)) == len(rows) == len(names)
    assert name("policy.steps=9", "eval.bootstrap=200") == names[0]
