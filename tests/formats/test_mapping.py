from __future__ import annotations

import pytest

from prlm_cli.core.errors import DataError, SettingsError
from prlm_cli.core.jsonl import Line
from prlm_cli.formats.mapping import apply, parse_map
from prlm_cli.formats.rows import Row


def _apply(fields, text):
    return apply(Line("here", fields), parse_map(text)).fields


def test_a_list_of_pairs_is_a_mapping_from_field_to_column():
    assert parse_map("text=body, title = Subject line ,date=a=b") == {
        "text": "body",
        "title": "Subject line",
        "date": "a=b",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "--map ; write field=column"),
        ("text", "--map text; write field=column, for example text=body,title=subject"),
        ("text=body,", "--map text=body,; write field=column"),
        ("=body", "--map =body; write field=column"),
        ("text=", "--map text=; write field=column"),
        ("txt=body", "--map txt=body: no field 'txt'; did you mean text?"),
        ("body=text", "--map body=text: no field 'body'; did you mean text=body?"),
        ("meta=x", "--map meta=x: no field 'meta'"),
        ("text=a,text=b", "--map: field 'text' stands twice"),
    ],
)
def test_nonsense_is_refused_with_what_to_do(text, message):
    with pytest.raises(SettingsError) as caught:
        parse_map(text)
    assert str(caught.value).startswith(message)


def test_a_mapped_column_takes_the_name_of_its_field_and_no_other():
    assert _apply({"sender": "u", "body": "t", "lang": "de"}, "user_id=sender,text=body") == {
        "user_id": "u",
        "text": "t",
        "lang": "de",
    }


def test_a_column_that_is_not_there_is_a_fault_that_names_it():
    with pytest.raises(DataError, match=r"^here: no column 'subject' for 'title'; check --map"):
        _apply({"text": "t"}, "title=subject")


def test_an_empty_cell_and_null_give_no_field():
    assert _apply(Row({"text": "t"}, ["subject"]), "title=subject") == {"text": "t"}
    assert _apply({"text": "t", "subject": None}, "title=subject") == {"text": "t"}


def test_columns_may_trade_names():
    assert _apply({"text": "short", "title": "long"}, "text=title,title=text") == {"text": "long", "title": "short"}


def test_a_column_may_be_two_fields():
    assert _apply({"body": "t"}, "text=body,title=body") == {"text": "t", "title": "t"}


@pytest.mark.parametrize(("meta", "kept"), [({}, {"text": "old"}), ({"a": 1}, {"a": 1, "text": "old"})])
def test_a_column_that_a_mapped_field_displaces_is_kept_in_meta(meta, kept):
    fields = {"text": "old", "body": "new"} | ({"meta": meta} if meta else {})

    assert _apply(fields, "text=body") == {"text": "new", "meta": kept}


def test_digits_of_a_mapped_date_are_epoch_seconds():
    assert _apply({"sent": "1715939200"}, "date=sent") == {"date": 1715939200}
    assert _apply({"sent": "2024"}, "date=sent") == {"date": "2024"}


def test_the_line_that_was_given_stays_as_it_was():
    fields = {"body": "t", "text": "old", "meta": {"a": 1}}
    _apply(fields, "text=body")

    assert fields == {"body": "t", "text": "old", "meta": {"a": 1}}
