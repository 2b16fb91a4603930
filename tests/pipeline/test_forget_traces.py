"""What is a trace of somebody who is to be forgotten, and what is not."""

from __future__ import annotations

import json
import random

import pytest

from prlm_cli.core.errors import StorageError
from prlm_cli.core.records import Document
from prlm_cli.core.store import Store
from prlm_cli.core.workspace import Run, Workspace
from prlm_cli.pipeline.forget import forget
from prlm_cli.pipeline.index import index
from prlm_cli.pipeline.training_set import user_hash
from tests.conftest import contents
from tests.pipeline.canaries import Corpus, holding, indexed_workspace, keep_vectors, write


def _interleaved(folder, seed):
    """An index that many small transactions have filled: rows moved from page to page, and were replaced."""
    numbers, corpus = random.Random(seed), Corpus("abcdefghijklmnopqrstuvwxyz", documents=2, seed=seed)
    workspace = indexed_workspace(folder, corpus)
    for _ in range(25):
        documents = [
            Document(
                user_id=user_id,
                doc_id=f"n{numbers.randrange(300)}",
                title=corpus.canary(user_id),
                text=f"{corpus.canary(user_id)} " * numbers.choice([1, 5, 20, 60, 400]),
            )
            for user_id in numbers.choices(list(corpus.canaries), k=60)
        ]
        with workspace.open_store(create=True) as store:
            store.add_documents(documents)
            store.settle()
    return workspace, corpus


_SEEDS = [3, 5]  # with which SQLite 3.40 leaves copies


@pytest.mark.parametrize("seed", _SEEDS)
def test_copies_of_rows_that_moved_and_earlier_versions_are_gone_too(tmp_path, seed):
    workspace, corpus = _interleaved(tmp_path, seed)

    for user_id in list(corpus.canaries)[:12]:
        forget(workspace, user_id=user_id)
        assert holding(workspace.folder, corpus.canaries[user_id]) == set()


@pytest.mark.parametrize("seed", _SEEDS)
def test_a_copy_that_the_store_leaves_is_found(tmp_path, monkeypatch, seed):
    workspace, corpus = _interleaved(tmp_path, seed)
    monkeypatch.setattr(Store, "compact", lambda store, _: store.truncate_log())
    for user_id in list(corpus.canaries)[:12]:
        with workspace.open_store() as store:
            now = "".join(document.text for document in store.documents(user_id))
        try:
            forget(workspace, user_id=user_id)
        except StorageError as error:
            assert str(error).startswith("not yet erased from index.sqlite")
        else:
            assert holding(workspace.folder, {word for word in corpus.canaries[user_id] if word in now}) == set()


@pytest.mark.parametrize("doc_id", [None, "d2"])
def test_a_store_that_does_not_erase_is_found_out(place, monkeypatch, doc_id):
    workspace, corpus = place
    monkeypatch.setattr(Store, "erase", lambda *_: None)

    with pytest.raises(StorageError, match=r"not yet erased from index\.sqlite"):
        forget(workspace, user_id=corpus.user_ids["a"], doc_id=doc_id)


def test_what_cannot_be_taken_apart_is_named_and_checked_again_when_it_is_gone(place):
    workspace, corpus = place
    user_id = corpus.user_ids["a"]
    report = workspace.folder / "report.html"
    text = next(record["text"] for record in corpus.records if record["user_id"] == user_id)
    report.write_text(f"<p>{text}</p>")

    with pytest.raises(StorageError, match=r"not yet erased from report\.html; remove what still holds it and run it"):
        forget(workspace, user_id=user_id)
    assert holding(workspace.folder, corpus.canaries[user_id]) == {"report.html"}
    with pytest.raises(StorageError, match="report"):
        forget(workspace, user_id=user_id)
    report.unlink()
    assert forget(workspace, user_id=user_id).documents == 3


@pytest.mark.parametrize("name", ["note.txt", "lines.jsonl", "cache/note.txt", "runs/reward-1/log.jsonl"])
@pytest.mark.parametrize("spelled", [str, json.dumps], ids=["plain", "json"])
def test_a_text_is_recognised_in_any_file(place, name, spelled):
    workspace, corpus = place
    user_id = corpus.user_ids["a"]
    path = workspace.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    text = next(record["text"] for record in corpus.records if record["user_id"] == user_id)
    path.write_text(f'{{"step": 1}}\n{{"said": "{spelled(text).strip(chr(34))}"}}\n')

    if name in ("note.txt", "lines.jsonl"):
        with pytest.raises(StorageError, match=name):
            forget(workspace, user_id=user_id)
    else:
        forget(workspace, user_id=user_id)
        assert holding(workspace.folder, corpus.canaries[user_id]) == set()
        assert path.exists() is (name != "cache/note.txt") and (not path.exists() or path.read_text())


def test_what_two_users_have_is_no_trace_of_either(tmp_path):
    text = "The gannet hit the lantern room at dawn, and the relay stuck open once more before breakfast."
    records = [{"user_id": f"user-{n}", "doc_id": f"d{n}", "text": f"{text} {n}", "title": text} for n in range(3)]
    workspace = Workspace(tmp_path / "ws")
    index(workspace, [write(tmp_path / "data.jsonl", records)])
    keep_vectors(workspace)

    forget(workspace, user_id="user-0")
    with workspace.open_store() as store:
        assert [document.text for document in store.documents("user-1")] == [f"{text} 1"]
    forget(workspace, user_id="user-1", doc_id="d1")
    assert forget(workspace, user_id="user-2").documents == 1


def test_the_shared_corpus_is_left_alone(place, tmp_path):
    workspace, corpus = place
    user_id = corpus.user_ids["a"]
    public = [{key: record[key] for key in ("doc_id", "text")} for record in corpus.records if "doc_id" in record]
    index(workspace, [write(tmp_path / "public.jsonl", public)], shared=True)
    before = {name: found for name, found in contents(workspace.folder).items() if name.startswith("shared")}

    forget(workspace, user_id=user_id)

    assert contents(workspace.folder).items() >= before.items() and len(before) > 1


@pytest.mark.parametrize(
    ("user_id", "other"),
    [("policy", "reward"), ("default", "seed"), ("user-1", "user-12"), ("u1", "u2"), ("12345678", "123456789")],
)
def test_an_id_that_is_a_word_or_part_of_another_is_no_trace(tmp_path, user_id, other):
    records = [{"user_id": user, "doc_id": "d", "text": f"About {user}."} for user in (user_id, other)]
    workspace = Workspace(tmp_path / "ws")
    index(workspace, [write(tmp_path / "data.jsonl", records)])
    Run(workspace.runs_folder / "policy-1").start("policy", "[policy]\nname = 1\n", trained_on=[user_hash(other)])

    assert forget(workspace, user_id=user_id).documents == 1


def test_an_id_that_others_write_of_is_no_trace(tmp_path):
    records = [{"user_id": user, "doc_id": "d", "text": "As ann@home.org told us."} for user in ("ann@home.org", "ben")]
    workspace = Workspace(tmp_path / "ws")
    index(workspace, [write(tmp_path / "data.jsonl", records)])

    assert forget(workspace, user_id="ann@home.org").documents == 1


def test_an_id_that_tells_is_looked_for(place):
    workspace, corpus = place
    user_id = corpus.user_ids["a"]
    (workspace.folder / "notes.txt").write_text(f"ask {user_id} about it")

    with pytest.raises(StorageError, match=r"notes\.txt"):
        forget(workspace, user_id=user_id)
