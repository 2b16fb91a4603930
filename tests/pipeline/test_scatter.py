from __future__ import annotations

import json
import stat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import asdict

from prlm_cli.core.errors import DataError
from prlm_cli.core.partition import Shard
from prlm_cli.core.records import Document, Query
from prlm_cli.core.workspace import Workspace
from prlm_cli.pipeline.inputs import Inputs, Reading, open_inputs
from prlm_cli.pipeline.scatter import gather, gather_rejects, scatter, shuffle_folder
from tests.conftest import tiny_corpus

_GOOD = {"user_id": "u", "doc_id": "d", "text": "t"}
_TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=20)
_META = st.dictionaries(
    st.text(max_size=3), st.none() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | _TEXTS
)
_RECORDS = st.lists(
    st.fixed_dictionaries(
        {"user_id": _TEXTS, "text": _TEXTS},
        optional={
            "query_id": _TEXTS,
            "doc_id": _TEXTS,
            "title": st.text(max_size=3).filter(lambda text: "\x00" not in text),
            "date": st.sampled_from(["2023", "", 5, 1.5, 1e9, None]),
            "lang": _TEXTS,
            "meta": _META,
        },
    ),
    min_size=1,
    max_size=8,
)


def _inputs(*paths, **reading) -> Inputs:
    return open_inputs(paths, lambda: None, Reading(**{"columns": {}, "split": None, "is_shared": False, **reading}))


@settings(max_examples=40)
@given(records=_RECORDS, count=st.integers(1, 4))
def test_each_shard_gets_its_users_documents_and_all_queries_in_order_and_unchanged(tmp_path_factory, records, count):
    folder = tmp_path_factory.mktemp("scatter")
    path = folder / "data.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    read = [record for _, found in _inputs(path).read() for record in found]
    scattered = scatter(_inputs(path), folder, count, skip_faults=False)

    assert (scattered.records, scattered.faults, scattered.first) == (len(records), 0, [])
    for shard in (Shard(number, count) for number in range(count)):
        found = list(gather([folder / scattered.folder], shard))
        assert [(type(r), r.user_id) for r in found] == [
            (Query if isinstance(r, Query) else Document, r.user_id)
            for r in read
            if isinstance(r, Query) or shard.holds(r.user_id)
        ]
        own, expected = ([asdict(r) for r in records if shard.holds(r.user_id)] for records in (found, read))
        assert own == expected
        assert {r.text for r in found if not shard.holds(r.user_id)} <= {""}  # nothing of what others ask


def test_inputs_follow_each_other_and_only_the_owner_may_read_what_is_laid_down(tmp_path, write_jsonl):
    path = write_jsonl(tiny_corpus())
    scattered = [scatter(_inputs(path), tmp_path, 2, skip_faults=False) for _ in range(2)]
    folders = [tmp_path / part.folder for part in scattered]

    once = list(gather(folders[:1], Shard(0, 2)))
    assert list(gather(folders, Shard(0, 2))) == once * 2
    assert {stat.S_IMODE(file.stat().st_mode) for folder in folders for file in folder.iterdir()} == {0o600}


def test_faults_are_counted_and_the_first_three_told(tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_text("\n".join([json.dumps(_GOOD), "{", '{"user_id": "u"}', "3", "[]"]))
    scattered = scatter(_inputs(path), tmp_path, 2, skip_faults=False)

    assert (scattered.records, scattered.faults, len(scattered.first)) == (1, 4, 3)
    assert [message.split(": ")[0] for message, _ in scattered.first] == [f"{path}:{n}" for n in (2, 3, 4)]
    assert not (tmp_path / scattered.folder / "rejects").exists()


def test_an_input_without_records_is_an_error(tmp_path):
    (tmp_path / "empty.jsonl").write_text("\n")

    with pytest.raises(DataError, match=r"empty\.jsonl: no records"):
        scatter(_inputs(tmp_path / "empty.jsonl"), tmp_path, 2, skip_faults=False)


def test_what_is_left_out_is_put_together_in_order(tmp_path):
    paths = [tmp_path / f"{n}.jsonl" for n in range(3)]
    for n, path in enumerate(paths):
        path.write_text(json.dumps(_GOOD) + "\n" + f'{{"text": "bad {n}"}}\n' * (n % 2 + 1))
    scattered = [scatter(_inputs(path), tmp_path, 2, skip_faults=True) for path in paths]
    gather_rejects([tmp_path / part.folder for part in scattered], tmp_path / "errors.jsonl")

    assert [part.faults for part in scattered] == [1, 2, 1]
    rejected = [json.loads(line)["rejected"] for line in (tmp_path / "errors.jsonl").read_text().splitlines()]
    assert rejected == [f'{{"text": "bad {n}"}}' for n in (0, 1, 1, 2)]
    gather_rejects([], tmp_path / "errors.jsonl")
    assert (tmp_path / "errors.jsonl").exists()


def test_inputs_come_apart_by_file_with_the_names_they_were_given(tmp_path, write_jsonl, monkeypatch):
    write_jsonl([_GOOD, {"user_id": "u"}], "a.jsonl")
    write_jsonl([_GOOD], "b.jsonl")
    monkeypatch.chdir(tmp_path)
    parts = _inputs(*map(type(tmp_path), ["a.jsonl", "b.jsonl"])).apart()
    monkeypatch.chdir("/")  # where a worker may be

    assert [len(part) for part in parts] == [1, 1]
    assert [name for name, _ in parts[1].read()] == ["b.jsonl"]
    with pytest.raises(DataError, match=r"^a\.jsonl:2: no field 'text'"):
        [list(records) for _, records in parts[0].read()]


def test_files_of_lamp_stay_together(tmp_path):
    question = {"id": "1", "input": "x", "profile": [{"id": "p", "text": "t"}]}
    paths = [tmp_path / f"{name}_questions.json" for name in ("train", "dev")]
    for path in paths:
        path.write_text(json.dumps([question]))

    assert [len(part) for part in _inputs(*paths).apart()] == [2]
    assert _inputs().apart() == []


def test_a_folder_for_scattered_records_is_empty_at_first_private_and_gone_in_the_end(tmp_path):
    place = Workspace(tmp_path / "ws")
    with place.write_lock(), shuffle_folder(place) as folder:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        (folder / "left").mkdir()
        with shuffle_folder(place) as again:  # as if the first had been killed
            assert (again, list(again.iterdir())) == (folder, [])
    assert not folder.exists()
