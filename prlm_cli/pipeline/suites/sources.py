"""A suite's own files -> queries with records: indexed in a workspace of their own, which goes when all is done."""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from prlm_cli.core.errors import DataError
from prlm_cli.core.records import Query
from prlm_cli.core.settings import Config
from prlm_cli.core.store import Store
from prlm_cli.core.workspace import Workspace
from prlm_cli.pipeline.index import index
from prlm_cli.pipeline.suites import simulated_users
from prlm_cli.pipeline.suites.benchmarks import Benchmark

_NUMBER = re.compile(r"LaMP[_-]?(\d)", re.IGNORECASE)


@contextlib.contextmanager
def suite_store(name: str, suite: Benchmark, path: Path, config: Config) -> Iterator[Store]:
    """The index of a suite's file. The user's workspace is not touched.

    Raises:
        DataError: If the file cannot be read, or is of another task of LaMP.
    """
    with tempfile.TemporaryDirectory(prefix="prlm-suite-") as folder:
        workspace = Workspace(Path(folder) / "workspace")
        if name == "personalllm":
            simulated = Path(folder) / "simulated.jsonl"
            with simulated.open("wb") as stream:
                for fields in simulated_users.records(path, config.judge, seed=config.seed):
                    stream.write(msgspec.json.encode(fields) + b"\n")
            index(workspace, [simulated], format="jsonl")
        else:
            index(workspace, [path], format="lamp" if suite.metrics else name)
        with workspace.open_store() as store:
            yield store


def suite_queries(name: str, suite: Benchmark, path: Path, store: Store) -> Iterator[Query]:
    """The queries of a suite, in the order of its file.

    Raises:
        DataError: If there are none, one has no target to be scored by, or the file is of another task of LaMP.
    """
    query = None
    for query in store.queries():
        recorded = _NUMBER.search(str(query.meta.get("task", "")))
        if suite.number and recorded and recorded[1] != suite.number:
            raise DataError(f"{path} is of LaMP-{recorded[1]}", hint=f"--suite lamp-{recorded[1]}, not {name}")
        if suite.metrics and query.target is None:
            hint = "the outputs file must lie beside the questions; test outputs are not published"
            raise DataError(f"{path}: query {query.query_id} has no target", hint=hint)
        yield query
    if query is None:
        raise DataError(f"{path} holds no questions", hint=f"--suite {name} reads that benchmark's own files")
