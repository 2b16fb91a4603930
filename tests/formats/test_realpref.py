import json

import pytest

from prlm_cli.core.errors import DataError
from prlm_cli.formats.realpref import read

ROW = {
    "id": "r1",
    "user": "ann",
    "turns": [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "No cilantro, please."},
        {"role": "assistant", "content": "Noted."},
        {"role": "user", "content": "Thanks."},
    ],
    "question": "A salsa?",
    "kind": "choice",
    "options": ["With cilantro", "With parsley"],
    "gold": "With parsley",
    "preference": "Dislikes cilantro",
    "expression": "explicit",
}
SECRET = "my very private preference"


def _lines(tmp_path, *rows, name="rows.jsonl"):
    path = tmp_path / name
    array = json.dumps(rows) if name.endswith(".json") else "\n".join(map(json.dumps, rows))
    path.write_text(array)
    return [line.fields for line in read(path)]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json"])
def test_turns_become_documents_and_the_question_a_query(tmp_path, name):
    *documents, query = _lines(tmp_path, ROW, name=name)

    assert [(d["doc_id"], d["text"], d.get("title")) for d in documents] == [
        ("r1/2", "No cilantro, please.", "Noted."),
        ("r1/4", "Thanks.", None),
    ]
    assert (query["query_id"], query["user_id"], query["text"]) == ("r1", "ann", "A salsa?")
    assert query["doc_ids"] == ["r1/2", "r1/4"]
    assert query["meta"]["gold"] == 1 and query["meta"]["preference"] == "Dislikes cilantro"


@pytest.mark.parametrize(
    ("fields", "gold"),
    [
        ({"gold": 0}, 0),
        ({"kind": "true_false", "options": None, "gold": True}, 0),
        ({"kind": "true_false", "options": None, "gold": "false"}, 1),
    ],
)
def test_the_right_option_is_named_by_place_text_or_truth(tmp_path, fields, gold):
    assert _lines(tmp_path, ROW | fields)[-1]["meta"]["gold"] == gold


def test_a_row_without_turns_has_no_history(tmp_path):
    (query,) = _lines(tmp_path, {"user": 7, "question": "q", "kind": "open"})

    assert (query["query_id"], query["user_id"], query["doc_ids"]) == ("1", "7", [])


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"kind": SECRET}, "kind"),
        ({"user": None}, "user"),
        ({"question": " "}, "question"),
        ({"options": ["one"]}, "options are not"),
        ({"options": ["same", "same"]}, "options are not"),
        ({"gold": 2}, "gold is none"),
        ({"gold": SECRET}, "gold is none"),
        ({"gold": True}, "gold is none"),
        ({"kind": "open", "answers": [SECRET]}, "1 answers to judge"),
    ],
)
def test_a_row_at_fault_is_named_without_its_text(tmp_path, fields, says):
    with pytest.raises(DataError) as failure:
        _lines(tmp_path, ROW, ROW | fields)

    assert "rows.jsonl:2" in str(failure.value) and says in str(failure.value)
    assert SECRET not in str(failure.value)


def test_a_row_at_fault_goes_alone_where_faults_are_taken(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(ROW | {"gold": 9}) + "\n" + json.dumps(ROW))
    faults = []

    found = list(read(path, lambda error, fields: faults.append(fields)))

    assert len(faults) == 1 and found[-1].fields["query_id"] == "r1"
