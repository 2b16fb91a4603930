from __future__ import annotations

import pytest
import torch

from prlm_cli.core.settings import ModelSettings
from prlm_cli.engines import in_order
from prlm_cli.engines.hf import HfEngine
from prlm_cli.models.loading import load_base, load_tokenizer
from tests.training.tiny import trainable

_PROMPTS = [[65 + n, *range(70, 70 + 3 * n)] for n in (4, 1, 6, 0, 2, 5, 3)]
_KEYS = [f"q{n}" for n in range(len(_PROMPTS))]


@pytest.fixture(scope="module")
def policy(tiny_model):
    return _with_preferences(load_base(tiny_model, ModelSettings())), load_tokenizer(tiny_model)


def _with_preferences(model):
    """Weights so large that what the model writes depends on all that it has read."""
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if "layers" in name and parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.5)
    return model


def _complete(policy, prompts=_PROMPTS, keys=_KEYS, **fields):
    few = {"stop_ids": [256], "max_new_tokens": 8, "batch_size": 4}
    return in_order(HfEngine(*policy, **(few | fields)).complete(prompts, keys))


@pytest.mark.parametrize("temperature", [0.0, 0.7], ids=["greedy", "sampled"])
def test_a_completion_does_not_depend_on_its_batch(policy, temperature):
    one_by_one = _complete(policy, batch_size=1, temperature=temperature)

    assert len({completion.text for completion in one_by_one}) == len(_PROMPTS)
    for batch_size in (2, 3, 7, 16):
        assert _complete(policy, batch_size=batch_size, temperature=temperature) == one_by_one
    assert _complete(policy, _PROMPTS[::-1], _KEYS[::-1], temperature=temperature) == one_by_one[::-1]


@pytest.mark.parametrize("temperature", [0.0, 0.7], ids=["greedy", "sampled"])
def test_prompts_that_are_equal_are_completed_as_if_each_were_alone(policy, temperature):
    prompts = [prompt for prompt in _PROMPTS for _ in range(3)]
    keys = [f"q{n}" for n in range(len(prompts))]
    one_by_one = _complete(policy, prompts, keys, batch_size=1, temperature=temperature)

    for batch_size in (2, 5, 32):
        assert _complete(policy, prompts, keys, batch_size=batch_size, temperature=temperature) == one_by_one
    assert len({completion.text for completion in one_by_one}) == (len(prompts) if temperature else len(_PROMPTS))


@torch.no_grad()
def _most_likely(model, prompt, count):
    """The greedy tokens, the whole text computed anew for each."""
    ids = list(prompt)
    for _ in range(count):
        ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(prompt) :]


def test_greedy_text_is_that_of_the_most_likely_tokens(policy):
    model, tokenizer = policy

    for prompt, completion in zip(_PROMPTS, _complete(policy), strict=True):
        assert completion.text == tokenizer.decode(_most_likely(model, prompt, 8), skip_special_tokens=True)


def test_seed_and_key_make_the_sample(policy):
    first = _complete(policy, temperature=1.0, seed=1)

    assert _complete(policy, temperature=1.0, seed=1) == first
    assert _complete(policy, temperature=1.0, seed=2) != first
    same_prompt = _complete(policy, [_PROMPTS[0]] * 4, ["a", "b", "a", "c"], temperature=1.0)
    assert same_prompt[0] == same_prompt[2]
    assert len({completion.text for completion in same_prompt}) == 3


def test_samples_are_drawn_as_often_as_the_model_says(policy):
    model, tokenizer = policy
    drawn = 600
    found = _complete(
        policy,
        [_PROMPTS[0]] * drawn,
        [str(n) for n in range(drawn)],
        temperature=0.5,
        max_new_tokens=1,
        batch_size=drawn,
    )
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([_PROMPTS[0]])).logits[0, -1]
    expected, likely = (logits / 0.5).softmax(-1).max(-1)

    share = sum(completion.text == tokenizer.decode([int(likely)]) for completion in found) / drawn
    assert share == pytest.approx(float(expected), abs=4 * float(expected * (1 - expected) / drawn) ** 0.5)


def test_a_completion_stops_at_a_stop_token_and_leaves_it_out(policy):
    model, tokenizer = policy
    ids = _most_likely(model, _PROMPTS[0], 8)
    end = ids.index(ids[4])

    (free,) = _complete(policy, [_PROMPTS[0]], ["a"])
    (stopped,) = _complete(policy, [_PROMPTS[0]], ["a"], stop_ids=[256, ids[4]])

    assert (free.tokens, free.truncated) == (8, True)
    assert stopped == (tokenizer.decode(ids[:end]), end, False)
    assert end > 0


def test_only_completions_that_reach_the_limit_are_truncated(policy):
    stop_ids = list(range(0, 258, 9))

    found = _complete(policy, max_new_tokens=12, stop_ids=stop_ids, temperature=2.0)

    assert {completion.truncated for completion in found} == {True, False}
    for completion in found:
        assert completion.truncated == (completion.tokens == 12)


def test_no_prompts_have_no_completions(policy):
    assert _complete(policy, [], []) == []


def test_gradient_checkpointing_during_training_changes_no_completion(tiny_model):
    model, tokenizer = trainable(tiny_model)
    _with_preferences(model).train()
    expected = _complete((model, tokenizer))

    model.activation_checkpointing_enable()
    model.train()

    assert _complete((model, tokenizer)) == expected
    assert model.training


def test_penalties_that_a_model_comes_with_are_not_used(policy):
    model, _ = policy
    expected = _complete(policy)
    model.generation_config.repetition_penalty = 3.0
    model.generation_config.no_repeat_ngram_size = 1
    try:
        assert _complete(policy) == expected
    finally:
        model.generation_config.repetition_penalty = model.generation_config.no_repeat_ngram_size = None


@pytest.mark.model
def test_the_embedded_model_answers_a_worked_example_with_one_line(embedded_model):
    from prlm_cli.core.prompts import PromptBuilder
    from prlm_cli.core.records import ProfileDocument
    from prlm_cli.models.tokenization import TokenizerCodec
    from prlm_cli.tasks import TASKS

    tokenizer = load_tokenizer(embedded_model)
    codec = TokenizerCodec(tokenizer)
    builder = PromptBuilder(TASKS["titles"], "completion", False, 512, codec)
    record = ProfileDocument(doc_id="1", text="We train parsers on trees.", title="Parsing Many Trees")
    prompt = builder.build("We train speech recognisers on recordings of many languages.", [record])

    (completion,) = _complete(
        (load_base(embedded_model, ModelSettings()), tokenizer),
        [prompt.ids],
        ["q"],
        stop_ids=[tokenizer.eos_token_id, *codec.line_ends],
        max_new_tokens=24,
    )

    assert not completion.truncated
    assert "\n" not in completion.text
    assert builder.parse(completion.text).answer == completion.text.strip() != ""
