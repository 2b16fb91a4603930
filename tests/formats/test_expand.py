from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from prlm_cli.core import jsonl
from prlm_cli.core.errors import DataError, StorageError
from prlm_cli.formats.expand import expand


@pytest.fixture
def tree(tmp_path):
    """Makes files from their paths: tables of records, and LaMP questions or outputs after the name."""

    def make(*names):
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            question = [{"id": "1", "input": "x", "profile": []}]
            is_table = path.suffix in (".csv", ".tsv")
            content = json.dumps(question if "questions" in name else {"task": "x", "golds": []})
            path.write_text("user_id,text\n" if is_table else content)
        return tmp_path

    return make


def _names(root, found):
    return [str(path.relative_to(root)) for path in found]


def test_a_folder_is_all_its_data_files_in_order_and_none_that_is_hidden(tree):
    root = tree("b.jsonl", "a/z.csv", "a/b/c.parquet", "a.tsv", "README.md", ".x.jsonl", ".git/y.jsonl", "stats.json")

    assert _names(root, expand([root])) == ["a/b/c.parquet", "a/z.csv", "a.tsv", "b.jsonl"]


def test_a_folder_of_lamp_is_the_questions_of_its_splits(tree):
    root = tree(
        *(f"{split}/{split}_{kind}.json" for split in ("train", "dev", "test") for kind in ("questions", "outputs"))
    )

    assert _names(root, expand([root])) == [f"{split}/{split}_questions.json" for split in ("dev", "test", "train")]


@pytest.mark.parametrize("order", [1, -1])
def test_outputs_are_no_input_beside_their_questions_but_alone_they_are(tree, order):
    root = tree("dev_questions.json", "dev_outputs.json", "test_outputs.json")
    named = sorted(root.iterdir())[::order]

    assert sorted(_names(root, expand(named))) == ["dev_questions.json", "test_outputs.json"]
    assert _names(root, expand([root / "dev_outputs.json"])) == ["dev_outputs.json"]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.jsonl", ["a.jsonl", "b.jsonl"]),
        ("**/*.jsonl", ["a.jsonl", "b.jsonl", "x/c.jsonl", "x/y/d.jsonl"]),
        ("[ab].*", ["a.jsonl", "b.jsonl", "b.md"]),
        ("x*", ["x/c.jsonl", "x/y/d.jsonl"]),
        ("**", ["a.jsonl", "b.jsonl", "b.md", "x/c.jsonl", "x/y/d.jsonl"]),
        ("b.*", ["b.jsonl", "b.md"]),
    ],
)
def test_a_pattern_is_the_files_that_fit_it_and_the_data_in_the_folders_that_do(tree, monkeypatch, pattern, found):
    root = tree("b.jsonl", "a.jsonl", "b.md", "x/y/d.jsonl", "x/c.jsonl", ".h.jsonl", "x/.h/e.jsonl")
    monkeypatch.chdir(root)

    assert expand([Path(pattern)]) == [Path(name) for name in found]
    assert expand([root / pattern]) == [root / name for name in found]


def test_a_saved_data_set_is_one_input(tree):
    import datasets

    root = tree("d/a.jsonl")
    datasets.Dataset.from_list([{"text": "t"}]).save_to_disk(str(root / "d/saved"))
    datasets.DatasetDict({"train": datasets.Dataset.from_list([{"text": "t"}])}).save_to_disk(str(root / "d/splits"))

    for given in (root / "d", root / "*", root / "**"):
        assert _names(root, expand([given])) == ["d/a.jsonl", "d/saved", "d/splits"]
    assert expand([root / "d/saved"]) == [root / "d/saved"]


def test_the_order_of_what_is_given_stays_and_a_file_given_twice_is_there_twice(tree):
    root = tree("a.jsonl", "b.jsonl", "d/a.jsonl")
    given = [root / "b.jsonl", root / "d", root / "a.jsonl", root / "b.jsonl"]

    assert _names(root, expand(given)) == ["b.jsonl", "d/a.jsonl", "a.jsonl", "b.jsonl"]


def test_streams_and_files_that_are_not_there_are_passed_on(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    given = [jsonl.STDIN, tmp_path / "pipe", tmp_path / "none.jsonl", Path("/dev/null")]

    assert expand(given) == given


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tree):
    root = tree("a[1].jsonl", "a1.jsonl")

    assert expand([root / "a[1].jsonl"]) == [root / "a[1].jsonl"]


def test_nothing_in_a_folder_or_for_a_pattern_is_an_error(tree):
    root = tree("x/README.md")

    with pytest.raises(DataError, match=r"x: no data in this folder"):
        expand([root / "x"])
    with pytest.raises(DataError, match=r"\*\.jsonl: nothing fits this pattern"):
        expand([root / "*.jsonl"])


@pytest.mark.skipif(os.geteuid() == 0, reason="NOT RUN: nothing is forbidden to root")
def test_a_folder_that_may_not_be_read_is_a_storage_error(tree):
    root = tree("x/a.jsonl")
    (root / "x").chmod(0)
    try:
        with pytest.raises(StorageError, match="x: Permission denied"):
            expand([root])
    finally:
        (root / "x").chmod(0o700)


def test_links_of_folders_are_not_followed(tree):
    root = tree("d/a.jsonl")
    (root / "d/loop").symlink_to(root / "d")

    assert _names(root, expand([root])) == ["d/a.jsonl"]
