"""Thoughts that say nothing of their query: the policy writes them to others as well."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from prlm_cli.core.prompts import PromptBuilder
from prlm_cli.core.records import Retrieved
from prlm_cli.training.collectives import joined


class SharedThoughts:
    """1.0 for a thought that was also written, word for word, to another query of the step; else 0.0.

    None where there is no thought. All processes of a training must call it.
    """

    def __init__(self, builder: PromptBuilder) -> None:
        self._builder = builder

    def __call__(self, *, completions: Sequence[str], queries: Sequence[Retrieved]) -> list[float | None]:
        """One figure a completion."""
        thoughts = [self._builder.parse(completion).reasoning for completion in completions]
        own = [(thought, query.query_id) for thought, query in zip(thoughts, queries, strict=True)]
        written_to: dict[str | None, set[str]] = defaultdict(set)
        for thought, query_id in joined(own)[0]:
            written_to[thought].add(query_id)
        return [None if thought is None else float(len(written_to[thought]) > 1) for thought in thoughts]
