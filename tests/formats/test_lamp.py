from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prlm_cli.core import jsonl
from prlm_cli.core.errors import DataError
from prlm_cli.core.records import Document, Query
from prlm_cli.formats import lamp
from prlm_cli.formats.detect import detect


@pytest.fixture
def task(tmp_path):
    """Writes the questions of a split, and its golds where given, as LaMP has them."""

    def write(questions, golds=None, split="dev", name="LaMP_4"):
        folder = tmp_path / name / split
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{split}_questions.json"
        path.write_text(json.dumps(questions))
        if golds is not None:
            outputs = [{"id": key, "output": value} for key, value in golds.items()]
            (folder / f"{split}_outputs.json").write_text(json.dumps({"task": name, "golds": outputs}))
        return path

    return write


def _item(item_id="1", **fields):
    return {"id": item_id, "text": f"text {item_id}", "title": f"title {item_id}", **fields}


def _question(question_id="q", profile=(), **fields):
    return {"id": question_id, "input": "Name this article: a storm", "profile": [*profile], **fields}


def _read(path, *args, **options):
    """The documents and the queries, validated."""
    lines = list(lamp.read(path, *args, **options))
    documents = [jsonl.validate(w, f, Document) for w, f in lines if "query_id" not in f]
    return documents, [jsonl.validate(w, f, Query) for w, f in lines if "query_id" in f]


def test_split_by_user_makes_each_question_a_user_of_its_own(task):
    path = task(
        [_question("40", [_item("400")]), _question("41", [_item("400", text="other")])], {"40": "a", "41": "b"}
    )
    documents, queries = _read(path)

    assert [(d.user_id, d.doc_id, d.text) for d in documents] == [
        ("LaMP_4:40", "400", "text 400"),
        ("LaMP_4:41", "400", "other"),
    ]
    assert [(q.query_id, q.user_id, q.target, q.split, q.doc_ids) for q in queries] == [
        ("40", "LaMP_4:40", "a", "dev", ["400"]),
        ("41", "LaMP_4:41", "b", "dev", ["400"]),
    ]
    assert not lamp.names_users(path)


def test_split_by_time_keeps_one_document_for_items_that_come_back(task):
    first, second = _item("1", date="2019-01-02"), _item("2", date="2020-01-02")
    path = task([_question("q1", [first], user_id=7), _question("q2", [first, second], user_id=7)])
    documents, queries = _read(path)

    assert [(d.user_id, d.doc_id, d.date) for d in documents] == [("7", "1", "2019-01-02"), ("7", "2", "2020-01-02")]
    assert [(q.user_id, q.doc_ids) for q in queries] == [("7", ["1"]), ("7", ["1", "2"])]
    assert lamp.names_users(path)


@pytest.mark.parametrize("change", [{"text": "new"}, {"title": "new"}, {"date": "2020"}, {"extra": 1}], ids=str)
def test_an_id_that_comes_back_with_other_content_is_a_document_of_its_own(task, change):
    old, new = _item("1"), _item("1", **change)
    profiles = [[old], [new], [old, new, new], [new]]
    documents, queries = _read(task([_question(f"q{n}", p, user_id="u") for n, p in enumerate(profiles)]))

    own_id = documents[1].doc_id
    assert [d.doc_id for d in documents] == ["1", own_id] and own_id.startswith("1~")
    assert [q.doc_ids for q in queries] == [["1"], [own_id], ["1", own_id], [own_id]]


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda items: st.lists(items, max_size=3) | st.dictionaries(st.sampled_from("abc"), items, max_size=2),
    max_leaves=5,
)
_ITEM_FIELDS = st.sampled_from(["id", "text", "title", "date", "year", "score", "abstract", "x"])
_PROFILES = st.lists(_JSON | st.dictionaries(_ITEM_FIELDS, _JSON, max_size=4), max_size=3)
_FUZZED = st.fixed_dictionaries(
    {},
    optional={
        "id": _JSON,
        "input": _JSON | st.just("Name this article: x"),
        "user_id": _JSON,
        "name": _JSON,
        "date": _JSON,
        "output": _JSON,
        "profile": _PROFILES | _JSON | st.dictionaries(_ITEM_FIELDS, _JSON | st.lists(_JSON, max_size=2), max_size=3),
    },
)


@given(
    st.lists(_JSON | _FUZZED, max_size=4),
    st.none() | st.lists(_JSON | st.dictionaries(st.sampled_from(["id", "output"]), _JSON)),
)
def test_whatever_stands_in_the_files_is_a_record_or_a_data_error(tmp_path_factory, questions, golds):
    path = tmp_path_factory.mktemp("lamp") / "train_questions.json"
    path.write_text(json.dumps(questions))
    if golds is not None:
        path.with_name("train_outputs.json").write_text(json.dumps(golds))
    faults = []
    doc_ids = set()
    for where, fields in lamp.read(path, lambda error, _: faults.append(error)):
        try:
            record = jsonl.validate(where, fields, Query if "query_id" in fields else Document)
        except DataError:
            continue
        assert jsonl.encode(record)
        if isinstance(record, Query):
            assert {(record.user_id, doc_id) for doc_id in record.doc_ids} <= doc_ids
        else:
            doc_ids.add((record.user_id, record.doc_id))
    assert all(str(path.parent) in str(error) for error in faults)


def test_what_is_at_odds_within_one_question_or_between_files_is_set_apart_too(task):
    train = task([_question("q1", [_item("1"), _item("1", text="new")], user_id="u")], split="train")
    dev = task([_question("q2", [_item("1", text="newer"), _item("1")], user_id="u")], split="dev")
    histories = lamp.Histories()
    found = [_read(path, histories=histories) for path in (train, dev)]

    ids = [document.doc_id for documents, _ in found for document in documents]
    assert len({*ids}) == len(ids) == 3
    assert [queries[0].doc_ids for _, queries in found] == [ids[:2], [ids[2], "1"]]


_CONTENTS = st.tuples(st.sampled_from(["1", "2", "1~"]), st.sampled_from(["a", "b", "c"]))


@given(st.lists(st.tuples(st.sampled_from(["u", "v"]), st.lists(_CONTENTS, max_size=4)), max_size=6))
def test_every_query_finds_its_own_history_under_its_ids(tmp_path_factory, questions):
    path = tmp_path_factory.mktemp("lamp") / "train_questions.json"
    rows = [
        _question(f"q{n}", [{"id": item_id, "text": text} for item_id, text in items], user_id=user)
        for n, (user, items) in enumerate(questions)
    ]
    path.write_text(json.dumps(rows))
    documents, queries = _read(path)
    texts = {(d.user_id, d.doc_id): d.text for d in documents}

    assert len(texts) == len(documents) == len({(u, item) for u, items in questions for item in items})
    for query, (user, items) in zip(queries, questions, strict=True):
        shown = [texts[user, doc_id] for doc_id in query.doc_ids]
        assert shown == [text for _, text in dict.fromkeys(items)]


@pytest.mark.parametrize(
    ("item", "text", "title", "meta"),
    [
        ({"title": "T", "abstract": "A"}, "A", "T", {}),
        ({"description": "D", "tag": "comedy"}, "D", "comedy", {}),
        ({"text": "R", "score": "4"}, "R", "4", {}),
        ({"text": "R", "score": 5.0}, "R", "5", {}),
        ({"text": "N", "title": "H", "category": "sports"}, "N", "H", {"category": "sports"}),
        ({"abstract": "A", "title": "T", "authors": ["x"]}, "A", "T", {"authors": ["x"]}),
        ({"text": "mail", "title": "subject"}, "mail", "subject", {}),
        ({"text": "tweet"}, "tweet", None, {}),
        ({"text": "tweet", "title": ""}, "tweet", None, {}),
        (
            {"overall": 4.0, "summary": "S", "description": "D", "reviewText": "R"},
            "R",
            "S",
            {"overall": 4.0, "description": "D"},
        ),
        ({"summary": "S", "content": "C", "author": "x"}, "C", "S", {"author": "x"}),
    ],
    ids=["1", "2", "3", "3 number", "4", "5", "6", "7", "empty title", "long review", "long topic"],
)
def test_the_fields_of_every_task_become_text_and_title_and_the_rest_is_kept(task, item, text, title, meta):
    ((document,), _) = _read(task([_question("q", [{"id": "i", **item}])]))

    assert (document.text, document.title, document.meta) == (text, title, meta)


@pytest.mark.parametrize(
    ("given_date", "date"),
    [
        ({"date": "2019-03-16"}, "2019-03-16"),
        ({"date": 2019}, "2019"),
        ({"year": 2019}, "2019"),
        ({"date": "2019-3-6"}, "2019-03-06"),
        ({"date": "2019-3"}, "2019-03"),
        ({"date": "2019-3-6-7-8-9"}, "2019-03-06T07:08:09"),
        ({"date": "2019-03-16 10:00:00"}, "2019-03-16 10:00:00"),
        ({"date": ""}, None),
        ({"date": None, "year": 2019}, "2019"),
        ({}, None),
    ],
    ids=str,
)
def test_a_date_is_that_of_the_calendar(task, given_date, date):
    ((document,), (query,)) = _read(task([_question("q", [_item("1", **given_date)], **given_date)]))

    assert (document.date, query.date) == (date, date)
    assert jsonl.check_date("here", document) == document


@pytest.mark.parametrize(
    ("given_input", "text"),
    [
        ("Name this article: a storm: the night after", "a storm: the night after"),
        ("Name the abstract of this paper : We show x.", "We show x."),
        ("Sum up this email:\n\nDear all: see below", "Dear all: see below"),
        ("How many stars has it, 1 or 2? Say it. review: Bad: do not buy", "Bad: do not buy"),
        ("Which of the tags fits? tags: [a, b, c] description: A ship sinks.", "A ship sinks."),
        ("Say this tweet again in other words, and nothing else: rain again", "rain again"),
        ('Which one fits the paper "A: b"? [1]: "C" [2]: "D"', None),
        ('Write about "an email: how to" from these: 1. a', None),
        ("Some text that nobody labelled: with a colon", None),
        ("Name this article:   ", None),
        ("no colon at all", None),
    ],
)
def test_text_is_the_material_after_a_label_and_otherwise_the_whole_input(task, given_input, text):
    (_, (query,)) = _read(task([_question("q", input=given_input)]))

    assert query.text == (given_input if text is None else text)
    assert query.meta["input"] == given_input


@pytest.mark.parametrize("packed", ["", ".gz"])
def test_outputs_are_found_beside_the_questions_or_named(task, tmp_path, packed):
    path = task([_question("q")], {"q": 5}, name="LaMP_3")
    outputs = path.with_name("dev_outputs.json")
    if packed:
        outputs.with_name("dev_outputs.json.gz").write_bytes(gzip.compress(outputs.read_bytes()))
        outputs.unlink()
        outputs = outputs.with_name("dev_outputs.json.gz")
    assert _read(path)[1][0].target == "5"
    elsewhere = outputs.rename(tmp_path / f"gold.json{packed}")

    assert _read(path)[1][0].target is None
    (query,) = _read(path, outputs=elsewhere)[1]
    assert (query.target, query.user_id) == ("5", "LaMP_3:q")


def test_a_question_without_a_gold_is_a_fault_where_there_are_golds(task):
    path = task([_question("q1"), _question("q2", [_item()])], {"q1": "a"})
    faults = []

    documents, (query,) = _read(path, lambda *fault: faults.append(fault))
    assert (documents, query.query_id) == ([], "q1")
    assert [error.message for error, _ in faults] == [f"{path}, question 2: no gold for this question"]


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ({"id": "q", "profile": []}, "no field 'input'"),
        ({"id": "q", "input": " ", "profile": []}, "no field 'input'"),
        ({"id": "q", "input": ["x"], "profile": []}, "no field 'input'"),
        ({"input": "x", "profile": []}, "no field 'id'"),
        ({"id": "q", "input": "x"}, "no field 'profile'"),
        ({"id": "q", "input": "x", "profile": "y"}, "no field 'profile'"),
        ({"id": "q", "output": "a gold"}, "no field 'input'; name the questions"),
    ],
    ids=str,
)
def test_a_question_at_fault_is_named_by_its_number(task, question, message):
    path = task([_question("good"), question, _question("too")])
    faults = []

    assert [q.query_id for q in _read(path, lambda *fault: faults.append(fault))[1]] == ["good", "too"]
    ((error, rejected),) = faults
    assert str(error).startswith(f"{path}, question 2: {message}") and rejected == question
    with pytest.raises(DataError) as caught:
        _read(path)
    assert str(caught.value) == str(error)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("x", "a JSON str, not an object"),
        ({"id": "1"}, "no text"),
        ({"id": "1", "text": " "}, "no text"),
        ({"id": "1", "text": 7}, "no text"),
        ({"id": "1", "text": None, "title": "t"}, "no text"),
    ],
    ids=str,
)
def test_a_profile_item_at_fault_leaves_the_others_of_its_question(task, item, message):
    path = task([_question("q", [_item("0"), item, _item("2")])])
    faults = []
    documents, (query,) = _read(path, lambda *fault: faults.append(fault))

    assert [d.doc_id for d in documents] == query.doc_ids == ["0", "2"]
    ((error, rejected),) = faults
    assert error.message == f"{path}, question 1, profile item 2: {message}" and rejected == item
    with pytest.raises(DataError, match="profile item 2"):
        _read(path)


def test_a_gold_at_fault_is_named(task):
    path = task([_question("q1"), _question("q2")], {"q1": None, "q2": "b"})
    faults = []

    assert [q.target for q in _read(path, lambda *fault: faults.append(fault))[1]] == ["b"]
    assert [error.message.partition(", ")[2] for error, _ in faults] == [
        "gold 1: no field 'id' or 'output'",
        "question 1: no gold for this question",
    ]


def test_an_empty_history_is_one(task):
    assert _read(task([_question("q")]))[1][0].doc_ids == []


def test_questions_inside_an_object_are_read(tmp_path):
    path = tmp_path / "test_questions.json"
    path.write_text(json.dumps({"task": "LaMP_6", "golds": [_question("q", [_item()])]}))

    assert detect(path) == "lamp"
    assert [q.split for q in _read(path)[1]] == ["test"]


_LONG = [
    {
        "reviewerId": "R1",
        "input": "Write on",
        "output": "A long answer",
        "profile": [{"reviewText": "r", "summary": "s"}],
    },
    {"reviewerId": "R1", "input": "Write more", "output": "Another", "profile": [{"reviewText": "r", "summary": "s"}]},
]


def test_rows_of_longlamp_have_ids_made_for_them_whatever_file_they_lie_in(tmp_path):
    import datasets

    folder = tmp_path / "product_review_temporal"
    folder.mkdir()
    (folder / "val.json").write_text(json.dumps(_LONG))
    (folder / "val.jsonl").write_text("".join(json.dumps(row) + "\n" for row in _LONG))
    table = datasets.Dataset.from_list(_LONG)
    with (folder / "val-00000-of-00001.parquet").open("wb") as stream:
        table.to_parquet(stream)
    datasets.DatasetDict({"val": table}).save_to_disk(str(folder / "saved"))
    found = {path.name: _read(path) for path in folder.iterdir()}
    (document,), queries = found["val.json"]

    assert (document.user_id, document.text, document.title) == ("R1", "r", "s") and len(document.doc_id) == 16
    assert [(q.user_id, q.text, q.target, q.split, q.doc_ids) for q in queries] == [
        ("R1", "Write on", "A long answer", "dev", [document.doc_id]),
        ("R1", "Write more", "Another", "dev", [document.doc_id]),
    ]
    assert len({q.query_id for q in queries}) == 2
    assert all(records == found["val.json"] for records in found.values()) and len(found) == 4
    assert [detect(folder / name) for name in sorted(found)] == ["lamp", "lamp", "lamp", "jsonl"]


def test_a_profile_stored_by_columns_is_a_list_of_items(tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text(json.dumps(_question("q", user_id="u") | {"profile": {"id": ["1", "2"], "text": ["a", "b"]}}))

    assert [(d.doc_id, d.text) for d in _read(path)[0]] == [("1", "a"), ("2", "b")]


def test_all_questions_of_the_exact_layout_are_read(shared_data):
    for name in ("LaMP_4_time", "LaMP_5_time"):
        for split in ("train", "dev", "test"):
            path = shared_data / "lamp_format" / name / split / f"{split}_questions.json"
            questions = json.loads(path.read_text())
            golds = {
                g["id"]: g["output"] for g in json.loads((path.parent / f"{split}_outputs.json").read_text())["golds"]
            }
            documents, queries = _read(path)
            texts = {(d.user_id, d.doc_id): (d.text, d.title, d.date) for d in documents}

            assert detect(path) == "lamp"
            assert [(q.query_id, q.user_id, q.target, q.split) for q in queries] == [
                (q["id"], q["user_id"], golds[q["id"]], split) for q in questions
            ]
            for question, query in zip(questions, queries, strict=True):
                assert question["input"].endswith(query.text) and len(query.text) < len(question["input"])
                assert [texts[query.user_id, doc_id] for doc_id in query.doc_ids] == [
                    (item.get("text") or item.get("abstract"), item["title"], item["date"])
                    for item in question["profile"]
                ]


def test_the_material_of_a_lamp_query_is_the_text_of_the_same_query_in_jsonl(shared_data):
    path = shared_data / "lamp_format" / "LaMP_5_time" / "test" / "test_questions.json"
    plain = {q.query_id: q.text for q in jsonl.read(shared_data / "acl-small" / "queries.test.jsonl", Query)}

    assert {q.query_id: q.text for q in _read(path)[1]} == {key: text.strip() for key, text in plain.items()}


def test_outputs_are_only_looked_for_beside_questions():
    assert lamp.outputs_beside(Path("train.json")) is None
