"""Profile cards in prompts."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prlm_cli.core.errors import SettingsError
from prlm_cli.core.settings import LAYOUTS
from tests.core.codecs import shown
from tests.core.prompt_forms import FORMS, HOSTILE, PROFILE, RECORDS, TURNS, builder_of, profiles, record, texts

_CARD = "The author's habits: 2 words; lower case"


@pytest.mark.parametrize(
    ("layout", "with_profile", "without"),
    [
        (
            "completion",
            f"{_CARD}\n\n{RECORDS}Text: new text\nTitle:",
            f"Title it.\n\n{_CARD}\n\nText: new text\nTitle:",
        ),
        (
            "turns",
            f"«system\nTitle it.\n\n{_CARD}»\n{TURNS}",
            f"«system\nTitle it.\n\n{_CARD}»\n«user\nnew text»\n«assistant\n",
        ),
        (
            "document",
            f"«user\nTitle it.\n\n{_CARD}\n\n{RECORDS}Text: new text»\n«assistant\nTitle:",
            f"«user\nTitle it.\n\n{_CARD}\n\nText: new text»\n«assistant\nTitle:",
        ),
    ],
)
def test_a_card_is_one_line_above_the_records(layout, with_profile, without):
    builder = builder_of(layout, card=True)

    assert shown(builder.build("new text", PROFILE, "2 words;  lower\ncase").ids) == with_profile
    assert shown(builder.build("new text", [], "2 words; lower case").ids) == without


@given(st.sampled_from(FORMS), texts, profiles, st.none() | texts)
def test_prompts_without_cards_do_not_change_with_a_card(form, text, profile, card):
    assert builder_of(*form).build(text, profile, card) == builder_of(*form).build(text, profile)


@given(st.sampled_from(FORMS), texts, profiles)
def test_an_empty_card_leaves_a_prompt_as_it_is(form, text, profile):
    assert builder_of(*form, card=True).build(text, profile, "") == builder_of(*form).build(text, profile)


@given(st.sampled_from(FORMS), st.integers(64, 900), texts, profiles, texts)
def test_a_card_takes_nothing_from_the_query_and_not_the_last_record(form, max_tokens, text, profile, card):
    builder, plain = builder_of(*form, max_tokens=max_tokens, card=True), builder_of(*form, max_tokens=max_tokens)
    try:
        without = plain.build(text, profile)
    except SettingsError:
        return
    packed = builder.build(text, profile, card)

    assert len(packed.ids) <= max_tokens
    assert packed.query_cut == without.query_cut
    assert bool(packed.records) == bool(without.records)
    assert packed.records == tuple(profile[: len(packed.records)])


def test_a_card_that_leaves_no_room_for_any_record_goes():
    profile = [record(1, "ab " * 40)]
    alone = len(builder_of().build("q", []).ids)
    builder = builder_of(max_tokens=alone + 45, card=True)

    assert "habits" in shown(builder.build("q", [], "c" * 20).ids)
    assert len(builder.build("q", profile, "c" * 20).records) == 1
    assert "habits" not in shown(builder.build("q", profile, "c" * 20).ids)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_records_that_come_without_a_card_are_an_error_where_prompts_have_one(layout):
    with pytest.raises(SettingsError, match=r"records without a card; retrieve them with --set prompt\.card=true"):
        builder_of(layout, card=True).build("q", PROFILE)
    assert builder_of(layout, card=True).build("q", []) == builder_of(layout).build("q", [])


@given(st.sampled_from(FORMS), HOSTILE)
def test_a_card_can_neither_close_the_reasoning_nor_forge_a_block(form, card):
    builder = builder_of(*form, card=True)
    hostile, harmless = (shown(builder.build("q", PROFILE, text).ids) for text in (f"x{card}", "x"))

    for pattern in ("</?think>", "</?answer>", r"\n", r"(^|\v|[\x85\u2028\n])(Text|Title):"):
        assert len(re.findall(pattern, hostile, re.I)) == len(re.findall(pattern, harmless, re.I)), pattern


# Of the prompts before there were cards: a run of that time goes on with the same ones.
@pytest.mark.parametrize(
    ("layout", "reasoning", "known"),
    [
        ("completion", False, "400d31dffd95c4ed"),
        ("completion", True, "68c0bcdb60e4e2df"),
        ("turns", False, "4c8b3ffaaf1da47e"),
        ("turns", True, "1bddaa24da92a74c"),
        ("document", False, "515722e4b092e00c"),
        ("document", True, "c79ea991ed48f123"),
    ],
)
def test_the_hash_is_as_ever_without_cards_and_another_with_them(layout, reasoning, known):
    assert builder_of(layout, reasoning).hash == known
    assert builder_of(layout, reasoning, card=True).hash != known
