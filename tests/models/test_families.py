"""Prompts and completions of each family of chat models (`families`), in every layout, with and without a thought."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from prlm_cli.core.configuration import resolve
from prlm_cli.core.prompts import PromptBuilder
from prlm_cli.core.records import ProfileDocument
from prlm_cli.core.settings import LAYOUTS
from prlm_cli.models.tokenization import TokenizerCodec
from prlm_cli.pipeline.policies import Policy
from prlm_cli.pipeline.warm_start import warm_start_kind
from prlm_cli.rewards import RewardContext
from prlm_cli.rewards.format import Format
from prlm_cli.tasks import TASKS
from tests.models.families import FAMILIES, tokenizer_of

_RECORDS = [ProfileDocument(doc_id="1", text="how parsers read", title="Short names")]

_GIVEN_BACK = [
    (name, reasoning)
    for name, family in FAMILIES.items()
    for reasoning, repeats in zip([True, False], family.repeats, strict=True)
    if repeats
]


@pytest.fixture(scope="module")
def codecs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("families")
    return {
        name: TokenizerCodec(tokenizer_of(family, folder / str(n))) for n, (name, family) in enumerate(FAMILIES.items())
    }


@pytest.fixture(params=list(FAMILIES))
def family(request):
    return FAMILIES[request.param]


@pytest.fixture
def codec(codecs, family):
    return next(codecs[name] for name, each in FAMILIES.items() if each is family)


@pytest.fixture(params=LAYOUTS)
def layout(request):
    return request.param


@pytest.fixture(params=[True, False], ids=["reasoning", "direct"])
def reasoning(request):
    return request.param


@pytest.fixture
def policy(codec, layout, reasoning):
    """A policy of the family, as far as prompts and completions go; its model names no end tokens of its own."""
    builder = PromptBuilder(TASKS["titles"], layout, reasoning, 4000, codec)
    model = SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=None))
    return Policy("untrained", model, codec.tokenizer, builder, codec)


def _text(codec, family, ids):
    """What ids say; a tokenizer of pieces has spaces of its own around control tokens."""
    text = codec.tokenizer.decode(ids)
    return text.replace(" ", "") if family.has_pieces else text


def test_a_prompt_ends_in_an_open_thought_or_where_none_can_begin(family, codec, policy, layout, reasoning):
    end = family.open_end if reasoning else family.closed_end
    if layout == "completion":
        end = "the query\n<think>\n" if reasoning else "the query\n"
    cue = "Title:" if layout != "turns" and not reasoning else ""

    prompt = _text(codec, family, policy.builder.build("the query", _RECORDS).ids)

    assert prompt.endswith((end.replace(" ", "") if family.has_pieces else end) + cue)


def test_a_prompt_shows_all_that_was_given_in_order_after_one_token_that_begins_it(family, codec, policy, layout):
    ids = policy.builder.build("the query", _RECORDS).ids
    prompt = codec.tokenizer.decode(ids)

    shown = ["how parsers read", "Short names", "the query"]
    instruction = [] if layout == "completion" else ["Write the title"]  # its records say what is asked for
    places = [prompt.find(text) for text in [*instruction, *shown]]
    assert -1 not in places and places == sorted(places)
    if family.begin and layout != "completion":
        assert [n for n, i in enumerate(ids) if i == codec.tokenizer.bos_token_id] == [0]


def test_a_completion_to_imitate_goes_on_from_the_prompt_as_one_text(family, codec, policy):
    prompt = policy.builder.build("the query", _RECORDS).ids
    completion = policy.completion_ids("Short Trees", "They are short")

    assert _text(codec, family, prompt + completion[:-1]) == _text(codec, family, prompt) + _text(
        codec, family, completion[:-1]
    )
    assert policy.builder.parse(codec.tokenizer.decode(completion, skip_special_tokens=True)).answer == "Short Trees"


@pytest.mark.parametrize("layout", ["turns", "document"], indirect=True)
@pytest.mark.parametrize(("family", "reasoning"), _GIVEN_BACK, indirect=True)
def test_a_prompt_with_its_completion_is_what_the_template_makes_of_the_conversation(codec, policy):
    builder = policy.builder
    turns = list(builder._render("the query", _RECORDS).messages)
    if not codec.accepts_system and turns[0].role == "system":
        turns[:2] = [turns[1]._replace(content=f"{turns[0].content}\n\n{turns[1].content}")]
    said = builder.opening + builder.completion("Short Trees", "They are short")
    conversation = [turn._asdict() for turn in turns] + [{"role": "assistant", "content": said.lstrip("\n")}]

    whole = codec.tokenizer.apply_chat_template(conversation, return_dict=False)

    ids = [*builder.build("the query", _RECORDS).ids, *policy.completion_ids("Short Trees", "They are short")]
    assert codec.tokenizer.decode(whole[: len(ids)]) == codec.tokenizer.decode(ids)
    assert whole[: len(ids)] == ids
    assert not codec.tokenizer.decode(whole[len(ids) :]).strip()


def test_a_completion_ends_with_what_ends_a_turn_and_generation_stops_there(family, codec, policy, layout):
    own = codec.tokenizer.convert_tokens_to_ids([family.specials[0], family.end_of_turn])
    end_token, end_of_turn = own

    assert codec.end_of_turn == end_of_turn
    assert policy.completion_ids("Short Trees")[-1] == (end_token if layout == "completion" else end_of_turn)
    assert set(policy.stop_ids) >= {end_token, end_of_turn}
    assert policy.stop_ids[0] == end_token


_WITH_A_THOUGHT = [  # what a model writes after a prompt that opened the thought; answer, form
    ("They are short.\n</think>\n\nTitle: Short Trees", "Short Trees", 1.0),
    ("They are short.\n</think>\n\n**Title:** Short Trees", "Short Trees", 1.0),
    ("<think>\nThey are short.\n</think>\n\nShort Trees", "Short Trees", 1.0),  # opened once more
    ("They are short.\nTitle: Short Trees", None, 0.0),  # never closed
    ("\n</think>\n\nTitle: Short Trees", "Short Trees", 0.0),  # none
    ("They are short.\n</think>\n\n", None, 0.0),
    ("They are short.\n</think>\n\n<think>\nOr not.\n</think>\n\nShort Trees", "Short Trees", 0.0),
]
_DIRECT = [
    ("Short Trees", "Short Trees", 1.0),
    ("**Short Trees**", "Short Trees", 1.0),
    ("<think>\nThey are short.\n</think>\n\nTitle: Short Trees", "Short Trees", 0.0),  # thinks all the same
    ("<think>\nThey are short.\nTitle: Short Trees", None, 0.0),
    ("</think>\n\nShort Trees", "Short Trees", 0.0),
]


def test_what_a_model_writes_is_read_and_its_form_rewarded_as_it_deserves(family, codec, policy, reasoning):
    reward = Format(RewardContext(policy.builder))
    for written, answer, form in _WITH_A_THOUGHT if reasoning else _DIRECT:
        ids = [*codec.encode_completion(written, after=policy.builder.opening)[:-1], codec.end_of_turn]
        completion = codec.tokenizer.decode(ids, skip_special_tokens=True)  # as the engine and the trainer do

        assert policy.builder.parse(completion).answer == answer, written
        assert reward(completions=[completion], queries=[]) == [form], written


def test_no_warm_start_teaches_a_model_to_reason_that_does_so_unasked(family, codec):
    kinds = {
        reasoning: warm_start_kind(
            resolve(assignments=[f"prompt.reasoning={reasoning}"]), reasons_by_itself=codec.reasons_by_itself
        )
        for reasoning in ("on", "off")
    }

    assert codec.reasons_by_itself == family.thinks
    assert kinds == {"on": "none" if family.thinks else "traces", "off": "answers"}


def test_a_user_cannot_write_a_control_token_of_any_family(family, codec, policy):
    everything = "".join([*family.specials, "<think>", "</think>"])
    evil = ProfileDocument(doc_id="1", text=everything, title=everything)
    harmless = ProfileDocument(doc_id="1", text="x", title="x")
    control = set(codec.tokenizer.added_tokens_decoder)

    found, expected = (
        [i for i in policy.builder.build(text, [record]).ids if i in control]
        for text, record in ((everything, evil), ("x", harmless))
    )

    assert found == expected
