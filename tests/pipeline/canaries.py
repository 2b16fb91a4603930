"""A workspace with every kind of file in it, and texts that are recognised wherever a byte of them is left."""

from __future__ import annotations

import json
import random
import shutil
from itertools import islice
from pathlib import Path
from typing import Any

from prlm_cli.core import jsonl
from prlm_cli.core.workspace import Workspace
from prlm_cli.pipeline.index import index
from prlm_cli.pipeline.queries import stored_queries
from prlm_cli.pipeline.retrieve import retrieve, swapped_profile
from tests.pipeline.small import Notes, small


class Corpus:
    """Records of some users; each text, title, id and `meta` holds 128 random bits of its own, a canary.

    `canaries` has those of each user, `of_document` those of each document; `last` is the id of everybody's newest.
    """

    def __init__(self, names: str = "abcd", *, documents: int = 7, seed: int = 0) -> None:
        self._random = random.Random(seed)
        self.last = f"d{(documents - 1) // 2 * 2}"
        self.user_ids = {name: f"{name}-{self._bits()}" for name in names}
        self.canaries = {user_id: {user_id} for user_id in self.user_ids.values()}
        self.of_document: dict[tuple[str, str], set[str]] = {}
        self.records = [record for name in names for record in self._records_of(self.user_ids[name], documents)]

    def canary(self, user_id: str) -> str:
        """A new one."""
        canary = self._bits()
        self.canaries[user_id].add(canary)
        return canary

    def document(self, user_id: str, doc_id: str, month: int) -> dict[str, Any]:
        """A document, or another version of one."""
        text, title, note = (self.canary(user_id) for _ in range(3))
        self.of_document.setdefault((user_id, doc_id), set()).update([text, title, note])
        return {
            "user_id": user_id,
            "doc_id": doc_id,
            "text": f"We parse {text}, café.",
            "title": f"Trees {title}",
            "date": f"2023-{month:02d}",
            "note": note,
        }

    def _records_of(self, user_id: str, documents: int) -> list[dict[str, Any]]:
        ids = [self.canary(user_id) if n % 2 else f"d{n}" for n in range(documents)]
        records = [self.document(user_id, doc_id, month) for month, doc_id in enumerate(ids, start=1)]
        for split in ("train", "train", "dev", "test"):
            if user_id.startswith("d") and split == "train":
                continue  # somebody whom no run is trained on
            query = {"query_id": self.canary(user_id), "user_id": user_id, "date": "2024", "split": split}
            records.append(query | {"text": f"More on {self.canary(user_id)}.", "target": self.canary(user_id)})
        return records

    def _bits(self) -> str:
        return f"{self._random.getrandbits(128):032x}"


def holding(folder: Path, words: set[str]) -> set[str]:
    """The files below a folder in which one of the words stands."""
    return {
        str(path.relative_to(folder))
        for path in sorted(folder.rglob("*"))
        if path.is_file() and any(word.encode() in path.read_bytes() for word in words)
    }


def write(path: Path, records: list[dict[str, Any]], *lines: str) -> Path:
    """Records, and lines that are none, in a file."""
    path.write_text("".join([*(json.dumps(record, ensure_ascii=False) + "\n" for record in records), *lines]))
    return path


def indexed_workspace(folder: Path, corpus: Corpus) -> Workspace:
    """A workspace with an index of the corpus, vectors, and a file of lines that were rejected."""
    workspace = Workspace(folder / "workspace")
    a = corpus.user_ids["a"]
    rejected = json.dumps({"user_id": a, "text": corpus.canary(a), "date": "soon"}) + "\n"
    earlier = [
        corpus.document(a, "d0", 1),
        corpus.document(a, corpus.last, 3),
    ]  # replaced by the same ids in the corpus
    index(workspace, [write(folder / "earlier.jsonl", earlier)])
    index(workspace, [write(folder / "data.jsonl", corpus.records, rejected)], skip_faults=True)
    keep_vectors(workspace)
    return workspace


def full_workspace(folder: Path, corpus: Corpus, model: Path) -> Workspace:
    """The same with runs, records, caches, and what interrupted commands leave."""
    from prlm_cli.pipeline.train_policy import train_policy
    from prlm_cli.pipeline.train_reward import train_reward

    workspace = indexed_workspace(folder, corpus)
    config = small(model, "prompt.reasoning=off")
    train_reward(workspace, config, reporter=Notes())
    train_policy(workspace, config, reporter=Notes())
    _write_records(workspace, config)
    _interrupt(workspace, folder / "data.jsonl")
    return workspace


def keep_vectors(workspace: Workspace) -> dict[str, list[bytes]]:
    """Stores a random vector for each document; returns each user's."""
    numbers, kept = random.Random(1), {}
    with workspace.open_store() as store:
        for user_id in store.users():
            vectors = {entry.rid: numbers.randbytes(96) for entry in store.history(user_id).entries}
            store.keep_vectors(user_id, "static;32", vectors)
            kept[user_id] = list(vectors.values())
    return kept


def _write_records(workspace: Workspace, config: Any) -> None:
    from prlm_cli.pipeline.generate import generate
    from prlm_cli.pipeline.policies import load_policy

    with workspace.open_store() as store:
        queries = list(islice(stored_queries(store, "test"), 4))
        own = list(retrieve(store, queries, config.retrieval))
        swapped = [swapped_profile(store, query, store.users(), config.retrieval) for query in queries]
    jsonl.write(workspace.folder / "retrieved.jsonl", own)
    policy = load_policy(config, reporter=Notes())
    jsonl.write(workspace.folder / "swapped.jsonl", generate(swapped, policy, config))


def _interrupt(workspace: Workspace, data: Path) -> None:
    """What a killed `index -`, a killed write of pairs and a killed save of a checkpoint leave."""
    with workspace.scratch() as scratch:
        shutil.copytree(scratch, workspace.cache / "scratch-killed")
    shutil.copy(data, workspace.cache / "scratch-killed" / "input")
    pairs = workspace.runs_folder / "reward-1" / "pairs.jsonl"
    pairs.with_name(".pairs.jsonl.x1y2z3").write_bytes(pairs.read_bytes()[:-9])
    checkpoint = workspace.runs_folder / "policy-1" / "checkpoints" / "checkpoint-2"
    shutil.copytree(checkpoint, checkpoint.with_name("checkpoint-3"))
    (checkpoint.with_name("checkpoint-3") / "manifest.json").unlink()
