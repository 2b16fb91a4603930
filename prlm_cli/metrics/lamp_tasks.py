"""What LaMP's tasks are: which generations are of which, what may be answered, and what its leaderboard reports.

Source: LaMP (arXiv 2304.11406); see `formats.lamp` for how the task of a query is known. A target with labels or a
rating of one's own data is scored in the same way where `meta.task` says which task it is like.
"""

from __future__ import annotations

import re

from prlm_cli.core.records import Generation

LABELS = {
    1: ("[1]", "[2]"),
    2: (
        "sci-fi", "based on a book", "comedy", "action", "twist ending", "dystopia", "dark comedy", "classic",
        "psychology", "fantasy", "romance", "thought-provoking", "social commentary", "violence", "true story",
    ),
}  # fmt: skip
"""The answers that a classification task allows, by the number of the task."""

LEADERBOARD = {
    1: ("accuracy", "f1_citation"),
    2: ("accuracy", "f1_tag"),
    3: ("mae", "rmse"),
    **dict.fromkeys((4, 5, 6, 7), ("rouge1", "rougeL")),
}
"""The metrics of each task, by its number."""

_TASK = re.compile(r"LaMP[_-]?(\d)", re.IGNORECASE)


def task_number(generation: Generation) -> int | None:
    """The number of the LaMP task that a generation is of; None where it is of none."""
    task = generation.meta.get("task")
    found = _TASK.match(task) if isinstance(task, str) else None
    return int(found[1]) if found else None
