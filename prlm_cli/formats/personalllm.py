"""PersonalLLM's table (arXiv 2409.20296): prompts, each with several responses and what reward models make of them.

Columns: `prompt`; `response_1`, `response_2`, …; and for each response and reward model `response_1_MODEL`, a number.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from prlm_cli.core.errors import DataError
from prlm_cli.formats.benchmark_rows import read_rows

_RESPONSE = re.compile(r"response_(\d+)")


class Row(NamedTuple):
    """A prompt, its responses, and of each the score by every reward model: scores[response][model]."""

    prompt: str
    responses: list[str]
    scores: list[dict[str, float]]


def read(path: Path) -> Iterator[Row]:
    """The rows of the table, in Parquet, JSONL or a JSON array.

    Raises:
        DataError: If the file cannot be read, or a row lacks a prompt, two responses, or a score of one of them.
    """
    for where, fields in read_rows(path):
        yield _row(where, fields)


def _row(where: str, fields: Mapping[str, Any]) -> Row:
    names = sorted((name for name in fields if _RESPONSE.fullmatch(name)), key=lambda name: int(name[9:]))
    if not isinstance(fields.get("prompt"), str) or len(names) < 2:
        raise DataError(f"{where}: no prompt with two responses", hint="columns: prompt, response_1, response_2, …")
    if not all(isinstance(fields[name], str) for name in names):
        raise DataError(f"{where}: a response is no text", hint="columns: prompt, response_1, response_2, …")
    scores = [
        {
            key.removeprefix(f"{name}_"): float(value)
            for key, value in fields.items()
            if key.startswith(f"{name}_") and isinstance(value, int | float)
        }
        for name in names
    ]
    if not scores[0] or any(score.keys() != scores[0].keys() for score in scores):
        raise DataError(f"{where}: not every response has the same scores", hint="columns: response_1_MODEL, …")
    return Row(fields["prompt"], [fields[name] for name in names], scores)
