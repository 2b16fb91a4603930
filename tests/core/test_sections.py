from __future__ import annotations

from typing import Annotated, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta, field

from prlm_cli.core.sections import Count, Positive, Section, Share, WrongSetting, bare, in_words, settings_of


class Tea(Section, kw_only=True, frozen=True):
    """How tea is made."""

    minutes: Annotated[Count, "How long it draws."] = 4
    degrees: Annotated[float, Meta(gt=0, le=100), "How hot the water is."] = 95.0
    milk: Annotated[Share | None, "Share of milk."] = None
    kind: Annotated[Literal["green", "black"], "What leaves."] = "black"
    spices: Annotated[list[str], "What else is in it."] = field(default_factory=list)
    sugar: Annotated[dict[str, float], "Spoons by person."] = field(default_factory=lambda: {"me": 1.0})


class Meal(Section, kw_only=True, frozen=True):
    """What is served."""

    guests: Annotated[Count, "How many come."] = 1
    tea: Tea = Tea()


def test_a_section_within_a_section_is_given_by_a_table_or_made():
    assert Meal.of({"tea": {"minutes": 2}}) == Meal(tea=Tea(minutes=2)) == Meal(tea={"minutes": 2})
    assert Meal.of({}) == Meal() and Meal().tea == Tea()


def test_a_setting_tells_its_default_and_help():
    settings = settings_of(Tea)

    assert list(settings) == ["minutes", "degrees", "milk", "kind", "spices", "sugar"]
    assert (settings["minutes"].default, settings["minutes"].help) == (4, "How long it draws.")
    assert settings["sugar"].default == {"me": 1.0}
    assert (settings_of(Meal)["tea"].type, settings_of(Meal)["tea"].help) == (Tea, "")


@pytest.mark.parametrize(
    ("name", "words", "plain"),
    [
        ("minutes", "an integer of at least 1", int),
        ("degrees", "a number above 0 and at most 100", float),
        ("milk", "a number of at least 0 and at most 1", float),
        ("kind", "'green' or 'black'", Literal["green", "black"]),
        ("spices", "a list of strings", list[str]),
        ("sugar", "a table", dict[str, float]),
    ],
)
def test_a_type_is_said_in_words_and_without_its_limits(name, words, plain):
    kind = settings_of(Tea)[name].type

    assert (in_words(kind), bare(kind)) == (words, plain)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"guests": 0}, "guests: expected an integer of at least 1"),
        ({"guests": 1.0}, "guests: expected an integer of at least 1"),
        ({"guests": True}, "guests: expected an integer of at least 1"),
        ({"guests": None}, "guests: expected an integer of at least 1"),
        ({"tea": 3}, "tea: expected a table"),
        ({"tea": Meal()}, "tea: expected a table"),
        ({"tea": {"minutes": "4"}}, "tea.minutes: expected an integer of at least 1"),
        ({"tea": {"degrees": 101}}, "tea.degrees: expected a number above 0 and at most 100"),
        ({"tea": {"degrees": False}}, "tea.degrees: expected a number above 0 and at most 100"),
        ({"tea": {"milk": "much"}}, "tea.milk: expected a number of at least 0 and at most 1"),
        ({"tea": {"kind": "red"}}, "tea.kind: expected 'green' or 'black'"),
        ({"tea": {"spices": [1]}}, "tea.spices: expected a list of strings"),
        ({"tea": {"sugar": {"you": "two"}}}, "tea.sugar.you: expected a number"),
        ({"tea": {"sugar": {"you": float("inf")}}}, "tea.sugar.you: expected a finite number"),
        ({"tea": {"sugar": 2}}, "tea.sugar: expected a table"),
        ({"coffee": 1}, "unknown key coffee"),
        ({"tea": {"cake": 1}}, "unknown key tea.cake"),
    ],
)
def test_what_is_wrong_is_said_with_its_whole_key(table, message):
    with pytest.raises(WrongSetting) as caught:
        Meal.of(table)

    assert caught.value.message == message
    assert message.startswith(("unknown key " if not caught.value.expected else "") + caught.value.key)


@given(st.one_of(st.floats(), st.integers(), st.text(), st.booleans(), st.none()))
def test_a_number_is_taken_only_from_a_finite_one_in_its_limits(value):
    is_fine = type(value) in (int, float) and 0 < value <= 100
    if not is_fine:
        with pytest.raises(WrongSetting, match="degrees"):
            Tea(degrees=value)
        return
    assert Tea(degrees=value).degrees == value and type(Tea(degrees=value).degrees) is float


def test_a_section_keeps_no_list_or_table_of_its_maker():
    spices, sugar = ["ginger"], {"me": 2}
    tea = Tea(spices=spices, sugar=sugar)
    spices.append("salt")
    sugar["you"] = 3

    assert (tea.spices, tea.sugar) == (["ginger"], {"me": 2.0})
    assert Tea().spices is not Tea().spices


def test_a_section_survives_a_trip_as_json():
    meal = Meal(guests=2, tea=Tea(kind="green"))

    assert Meal.of(msgspec.json.decode(msgspec.json.encode(meal))) == meal


def test_every_alias_says_its_limit():
    assert [in_words(kind) for kind in (Count, Positive)] == ["an integer of at least 1", "a number above 0"]
