"""Workspaces and settings that train a tiny model in seconds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from prlm_cli.core.configuration import resolve
from prlm_cli.core.records import Retrieved
from prlm_cli.core.reporting import Silent
from prlm_cli.core.settings import Config
from prlm_cli.core.store import Store
from prlm_cli.core.workspace import Workspace
from prlm_cli.pipeline.index import index
from prlm_cli.pipeline.queries import stored_queries
from prlm_cli.pipeline.retrieve import retrieve
from tests.conftest import tiny_corpus

FEW = (
    "pairs.samples=2",
    "prompt.layout=completion",
    "prompt.max_tokens=400",
    "generation.max_new_tokens=8",
    "pairs.max_queries=6",
    "reward.steps=2",
    "reward.batch_size=2",
    "reward.max_tokens=300",
    "warm_start.steps=2",
    "warm_start.batch_size=2",
    "policy.steps=2",
    "policy.num_generations=2",
    "policy.max_new_tokens=6",
    "policy.eval_queries=2",
    "policy.learning_rate=1e-2",
    "eval.bootstrap=100",
)


class Notes(Silent):
    """A reporter that keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def small(model: Path, *assignments: str) -> Config:
    """Settings of few steps; `assignments` come last."""
    return resolve(assignments=[f"model.name={model}", "model.lora_r=4", *FEW, *assignments])


def indexed(folder: Path, records: Iterable[Mapping[str, Any]] | None = None) -> Workspace:
    """A workspace with an index of the tiny corpus, or of other records."""
    data = folder / "data.jsonl"
    data.write_text("".join(json.dumps(record) + "\n" for record in records or tiny_corpus()))
    workspace = Workspace(folder / "workspace")
    index(workspace, [data])
    return workspace


def asked(store: Store, config: Config, split: str = "train") -> list[Retrieved]:
    """The queries of a split with their records."""
    return list(retrieve(store, stored_queries(store, split), config.retrieval, seed=config.seed))
