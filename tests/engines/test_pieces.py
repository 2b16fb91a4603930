from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from prlm_cli.core.prompts import Message, Prompt, PromptBuilder
from prlm_cli.engines.pieces import PieceCodec, messages_of
from prlm_cli.tasks import TASKS

_TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


@given(st.lists(st.tuples(st.sampled_from(["system", "user", "assistant"]), _TEXTS), min_size=1))
def test_a_prompt_comes_back_whole_without_the_opening_of_a_reply(turns):
    messages = tuple(Message(*turn) for turn in turns)

    assert tuple(messages_of(PieceCodec().encode(Prompt(messages, True, "Title:")))) == messages


def test_a_text_to_go_on_with_keeps_its_opening():
    ids = PieceCodec().encode(Prompt((Message("user", "Text: a\n"),), False, "Title:"))

    assert messages_of(ids) == [Message("user", "Text: a\nTitle:")]


@given(_TEXTS, st.integers(-1, 20))
def test_a_cut_is_a_beginning_of_so_many_pieces_at_most(text, tokens):
    codec = PieceCodec()
    cut = codec.cut(text, tokens)

    assert text.startswith(cut)
    assert codec.count(cut) <= max(0, tokens)
    assert codec.cut(text, codec.count(text)) == text


def test_a_long_query_is_cut_to_the_longest_prompt():
    builder = PromptBuilder(TASKS["titles"], "document", False, 100, PieceCodec())

    packed = builder.build("word " * 1000, [])

    assert packed.query_cut and len(packed.ids) <= 100
