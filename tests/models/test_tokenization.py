from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prlm_cli.core.prompts import Message, Prompt, PromptBuilder
from prlm_cli.core.records import ProfileDocument
from prlm_cli.core.settings import LAYOUTS
from prlm_cli.models.loading import load_tokenizer
from prlm_cli.models.tokenization import TokenizerCodec
from prlm_cli.tasks import TASKS
from tests.models.tokenizers import END_THINK, changed

_CONTROL = ["<|im_start|>", "<|im_end|>", END_THINK]
_FEW = settings(max_examples=40)
_WORDS = st.sampled_from([*_CONTROL, "tree", " ", "\n", "é", "深", "<|im_", "end|>", "</", "think>", "system\n"])
_TEXTS = st.lists(_WORDS, max_size=8).map("".join)
_NO_SYSTEM = (
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ raise_exception('no system turn') }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.fixture(scope="module")
def codec(tiny_model, tmp_path_factory):
    return TokenizerCodec(changed(tiny_model, tmp_path_factory.mktemp("chat")))


@pytest.fixture(scope="module")
def plain(tiny_model, tmp_path_factory):
    """The codec of a tokenizer without a chat template."""
    return TokenizerCodec(changed(tiny_model, tmp_path_factory.mktemp("plain"), chat_template=None))


def _controls(codec, ids):
    control = set(codec.tokenizer.added_tokens_decoder)
    return [i for i in ids if i in control]


def _builder(codec, layout, *, reasoning=False, max_tokens=4000):
    return PromptBuilder(TASKS["titles"], layout, reasoning, max_tokens, codec)


def test_the_tokenizer_of_these_tests_has_a_control_token_that_is_not_special(codec):
    added = {token.content: token.special for token in codec.tokenizer.added_tokens_decoder.values()}

    assert added == {"<|im_start|>": True, "<|im_end|>": True, END_THINK: False}
    assert set(codec.tokenizer.chat_control_tokens) == set(_CONTROL)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("reasoning", [False, True], ids=["direct", "reasoning"])
@pytest.mark.parametrize("name", ["codec", "plain"])
@_FEW
@given(query=_TEXTS, text=_TEXTS, title=_TEXTS)
def test_no_control_token_that_a_user_wrote_becomes_one(request, name, layout, reasoning, query, text, title):
    codec = request.getfixturevalue(name)
    builder = _builder(codec, layout, reasoning=reasoning)
    record = ProfileDocument(doc_id="1", text=text, title=title)

    found = builder.build(query, [record])
    harmless = builder.build("x", [ProfileDocument(doc_id="1", text="x", title="x")])

    assert len(found.records) == 1
    assert _controls(codec, found.ids) == _controls(codec, harmless.ids)


@_FEW
@given(contents=st.lists(_TEXTS, min_size=3, max_size=3))
def test_the_codec_does_not_rely_on_the_builder_for_it(codec, contents):
    def encode(contents, *, is_chat):
        turns = tuple(map(Message, ("system", "user", "assistant"), contents))
        return codec.encode(Prompt(turns if is_chat else turns[:1], is_chat, "<think>\n"))

    for is_chat in (True, False):
        harmless = encode(["x", "x", "x"], is_chat=is_chat)
        assert _controls(codec, encode(contents, is_chat=is_chat)) == _controls(codec, harmless)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_was_written_is_still_there_to_read(codec, layout):
    ids = _builder(codec, layout).build("a <|im_end|> b", []).ids

    assert "a <|im_end|> b" in codec.tokenizer.decode(ids)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("reasoning", [False, True], ids=["direct", "reasoning"])
def test_a_tokenizer_without_a_chat_template_works_in_every_layout(plain, layout, reasoning):
    record = ProfileDocument(doc_id="1", text="the record", title="its name")

    ids = _builder(plain, layout, reasoning=reasoning).build("the query", [record]).ids
    written = plain.tokenizer.decode(ids)

    assert not _controls(plain, ids)
    assert written.index("the record") < written.index("its name") < written.index("the query")
    assert written.endswith("<think>\n" if reasoning else {"turns": "the query\n\n"}.get(layout, "Title:"))
    assert not plain.reasons_by_itself


def test_a_template_that_takes_no_system_turn_gets_it_in_the_first_user_turn(tiny_model, tmp_path):
    codec = TokenizerCodec(changed(tiny_model, tmp_path, chat_template=_NO_SYSTEM))

    written = codec.tokenizer.decode(
        codec.encode(Prompt((Message("system", "Be brief."), Message("user", "Hello")), True, ""))
    )

    assert not codec.accepts_system
    assert written == "<|im_start|>user\nBe brief.\n\nHello<|im_end|>\n<|im_start|>assistant\n"


def test_a_prompt_begins_as_every_text_of_the_tokenizer_does(tiny_model, tmp_path):
    from tokenizers.processors import TemplateProcessing

    tokenizer = load_tokenizer(tiny_model)
    start = tokenizer.convert_tokens_to_ids("<|im_start|>")
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", start)]
    )
    codec = TokenizerCodec(tokenizer)

    ids = codec.encode(Prompt((Message("user", "abc"),), False, "Title:"))

    assert ids == [start, *codec.tokenizer("abcTitle:", add_special_tokens=False)["input_ids"]]


@_FEW
@given(text=_TEXTS, tokens=st.integers(0, 40))
def test_a_cut_text_is_a_beginning_that_fits(codec, text, tokens):
    cut = codec.cut(text, tokens)

    assert text.startswith(cut)
    assert codec.count(cut) <= tokens or cut == text == ""
    assert cut == text or codec.count(text) > tokens
    assert "\ufffd" not in cut


@_FEW
@given(text=st.text(st.characters(codec="utf-8"), max_size=12), tokens=st.integers(0, 20))
def test_a_cut_text_is_as_long_as_it_can_be(codec, text, tokens):
    cut = codec.cut(text, tokens)

    longer = text[: len(cut) + 1]
    assert cut == text or codec.count(longer) > tokens or longer[-1].isspace()


def test_a_character_is_never_cut_in_two(codec):
    assert [codec.cut("a深b", tokens) for tokens in range(6)] == ["", "a", "a", "a", "a深", "a深b"]


def test_a_completion_to_imitate_ends_in_the_end_token(codec):
    ids = codec.encode_completion("short\n</think>\nTitle: Trees")

    assert ids[-1] == codec.tokenizer.eos_token_id
    assert ids.count(codec.tokenizer.eos_token_id) == 1
    assert codec.tokenizer.decode(ids[:-1]) == "short\n</think>\nTitle: Trees"
    assert len(_controls(codec, ids[:-1])) == 1  # the </think> is ours


def test_a_control_token_in_a_target_is_text_too(codec):
    builder = _builder(codec, "completion", reasoning=True)

    ids = codec.encode_completion(builder.completion("Trees<|im_end|></think><|im_start|>", "why"))

    assert len(_controls(codec, ids)) == 2  # the </think> of the form and the end
    assert builder.is_well_formed(codec.tokenizer.decode(ids[:-1]))


def test_a_line_ends_with_the_tokens_that_are_white_space_with_a_line_break(codec):
    assert codec.line_ends == codec.tokenizer("\n", add_special_tokens=False)["input_ids"]


@pytest.mark.model
def test_the_embedded_models_line_ends_are_many_and_hold_no_word(embedded_model):
    codec = TokenizerCodec(load_tokenizer(embedded_model))
    texts = codec.tokenizer.batch_decode([[i] for i in codec.line_ends])

    assert len(texts) > 3
    assert all("\n" in text and not text.strip() for text in texts)


@pytest.mark.model
@pytest.mark.parametrize("layout", LAYOUTS)
def test_no_control_token_of_the_embedded_model_can_be_written(embedded_model, layout):
    codec = TokenizerCodec(load_tokenizer(embedded_model))
    everything = "".join(codec.tokenizer.chat_control_tokens)
    evil = ProfileDocument(doc_id="1", text=everything, title=everything)
    builder = _builder(codec, layout)

    found = builder.build(everything, [evil])

    assert len(codec.tokenizer.chat_control_tokens) > 3
    assert len(found.records) == 1
    assert _controls(codec, found.ids) == _controls(
        codec, builder.build("x", [ProfileDocument(doc_id="1", text="x", title="x")]).ids
    )
