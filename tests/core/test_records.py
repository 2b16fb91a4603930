from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prlm_cli.core import jsonl
from prlm_cli.core.records import (
    Document,
    Generation,
    ProfileDocument,
    Query,
    Retrieved,
    Usage,
    convert,
    widen,
    with_doc_id,
)

_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
_META = st.dictionaries(st.text(), _JSON, max_size=3)
_QUERY = {"query_id": "q", "user_id": "u", "text": "t"}
_PROFILE = [ProfileDocument(doc_id="d", text="x", title="y", date="2024", score=1.5, rank=1)]
_FULL_QUERY = Query(
    query_id="q", user_id="u", text="t", target="g", date=5, split="dev", source_doc_id="s", meta={"lang": "de"}
)


@given(st.dictionaries(st.text().filter(lambda name: name not in Query.__struct_fields__), _JSON, max_size=4))
def test_unknown_fields_are_kept_in_meta(extra):
    assert convert(Query, {**_QUERY, **extra}).meta == extra


def test_unknown_fields_join_the_meta_that_is_there():
    assert convert(Query, {**_QUERY, "meta": {"a": 1}, "b": 2}).meta == {"a": 1, "b": 2}
    assert convert(Query, {**_QUERY, "meta": None, "b": 2}).meta == {"b": 2}


def test_a_meta_that_is_no_object_is_refused_even_beside_unknown_fields():
    with pytest.raises(msgspec.ValidationError, match="meta"):
        convert(Query, {**_QUERY, "meta": [1], "b": 2})


@pytest.mark.parametrize(
    "wrong",
    [
        {"user_id": 1},
        {"text": None},
        {"date": True},
        {"date": ["2024"]},
        {"target": 3},
        {"split": 1},
        {"query_id": None},
    ],
    ids=str,
)
def test_a_field_of_the_wrong_type_is_refused(wrong):
    with pytest.raises(msgspec.ValidationError, match=next(iter(wrong))):
        convert(Query, {**_QUERY, **wrong})


def test_each_stage_keeps_every_field_of_the_record_before_it():
    retrieved = widen(Retrieved, _FULL_QUERY, profile=_PROFILE, retriever="bm25", profile_user_id="v")
    usage = Usage(prompt_tokens=1, completion_tokens=2, records=1)
    generation = widen(
        Generation, retrieved, completion="c", reasoning="r", answer="a", policy="p", seed=0, usage=usage
    )

    for narrow, wide in ((_FULL_QUERY, retrieved), (retrieved, generation)):
        assert {name: getattr(wide, name) for name in narrow.__struct_fields__} == msgspec.structs.asdict(narrow)


def test_widen_lets_a_new_value_win():
    assert widen(Retrieved, _FULL_QUERY, text="other", profile=[], retriever="none").text == "other"


@given(kind=st.sampled_from([Document, Query, Retrieved, Generation]), data=st.data())
def test_what_is_written_is_read_back_the_same(kind, data):
    record = _record(kind, data)
    line = jsonl.encode(record)

    assert line.count(b"\n") == 1
    assert convert(kind, msgspec.json.decode(line)) == record


def _record(kind: type[msgspec.Struct], data: st.DataObject) -> msgspec.Struct:
    if kind is Document:
        return Document(user_id="u", doc_id=data.draw(st.text()), text=data.draw(st.text()), meta=data.draw(_META))
    fields = {"query_id": data.draw(st.text()), "user_id": data.draw(st.text()), "text": data.draw(st.text())}
    if kind is not Query:
        fields |= {"profile": _PROFILE, "retriever": "bm25"}
    if kind is Generation:
        fields |= {"completion": data.draw(st.text()), "reasoning": None, "answer": data.draw(st.none() | st.text())}
        fields |= {"policy": "p", "seed": 3}
    return kind(
        **fields, target=data.draw(st.none() | st.text()), date=data.draw(st.none() | st.integers() | st.text())
    )


@given(st.text(), st.none() | st.text(), st.none() | st.text() | st.integers())
def test_a_document_without_id_gets_one_from_its_content_alone(text, title, date):
    document = Document(user_id="u", text=text, title=title, date=date)
    named = with_doc_id(document)

    assert len(named.doc_id) == 16
    assert named.doc_id == with_doc_id(msgspec.structs.replace(document, user_id="v", meta={"a": 1})).doc_id
    assert named.doc_id != with_doc_id(msgspec.structs.replace(document, text=text + ".")).doc_id
    assert with_doc_id(named) == named
