"""What a policy writes to the same few queries while it is trained: users' text, kept in the run only when asked."""

from __future__ import annotations

import json
from collections.abc import Sequence

from prlm_cli.core.files import private
from prlm_cli.core.records import Retrieved
from prlm_cli.core.settings import Config
from prlm_cli.core.workspace import Run
from prlm_cli.pipeline.generate import generate
from prlm_cli.pipeline.policies import Policy

SAMPLED_QUERIES = 3


def write_samples(run: Run, step: int, policy: Policy, queries: Sequence[Retrieved], config: Config) -> None:
    """Adds greedy completions to the run's `samples.jsonl`, each with the ids of all that its text may come from.

    By these ids `forget` knows whose a line is.
    """
    with open(run.samples, "a", opener=private, encoding="utf-8") as stream:
        for made in generate(queries, policy, config, temperature=0.0):
            line = {
                "step": step,
                "query_id": made.query_id,
                "user_id": made.user_id,
                "source_doc_id": made.source_doc_id,
                "profile": [{"doc_id": record.doc_id} for record in made.profile],
                "completion": made.completion,
            }
            stream.write(json.dumps(line) + "\n")


def read_samples(run: Run) -> dict[str, dict[int, str]]:
    """Query -> step -> completion; empty where none were kept. Of a step that was made twice the later one counts."""
    found: dict[str, dict[int, str]] = {}
    if run.samples.exists():
        for line in map(json.loads, run.samples.read_text(encoding="utf-8").splitlines()):
            found.setdefault(line["query_id"], {})[line["step"]] = line["completion"]
    return {query_id: dict(sorted(steps.items())) for query_id, steps in found.items()}
