"""Users who are mixtures of reward models, as PersonalLLM (arXiv 2409.20296) simulates them.

1. A user is a vector of weights over the reward models, drawn from a Dirichlet distribution with alpha 0.01 (the
   released default), and values a response by the weighted sum of the models' scores.
2. Scores are standardised over the table: each model's to mean 0 and deviation 1, so that none outweighs the others
   by its scale.
3. Half of the prompts, drawn once, are for histories; questions are of the other half, so no user has seen them.
4. A history is a user's earlier choices: a prompt, titled with the response that the user values most.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prlm_cli.core.errors import DataError
from prlm_cli.core.settings import JudgeSettings
from prlm_cli.formats.personalllm import Row, read

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ALPHA = 0.01
_QUESTIONS_A_USER = 4


def records(path: Path, settings: JudgeSettings, *, seed: int) -> Iterator[dict[str, Any]]:
    """The fields of the documents and of the queries of simulated users, one user after the other.

    Args:
        path: The table.
        settings: How many users and interactions.
        seed: Of the users and of what they are asked.

    Raises:
        DataError: If the table cannot be read, or has fewer than four prompts or other reward models in some row.
    """
    import numpy as np

    rows = list(read(path))
    scores = _standardised(path, rows)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(rows))
    for_histories, for_questions = order[: len(rows) // 2], order[len(rows) // 2 :]
    for number in range(settings.users):
        weights = rng.dirichlet([_ALPHA] * len(rows[0].scores[0]))
        seen = rng.choice(for_histories, size=min(settings.interactions, len(for_histories)), replace=False)
        asked = rng.choice(for_questions, size=min(_QUESTIONS_A_USER, len(for_questions)), replace=False)
        yield from _user(f"user-{number}", rows, scores, weights, [int(n) for n in seen], [int(n) for n in asked])


def _user(
    user_id: str,
    rows: Sequence[Row],
    scores: Sequence[NDArray[Any]],
    weights: NDArray[Any],
    seen: list[int],
    asked: list[int],
) -> Iterator[dict[str, Any]]:
    for n in seen:
        best = rows[n].responses[int((scores[n] @ weights).argmax())]
        yield {"user_id": user_id, "doc_id": f"p{n}", "text": rows[n].prompt, "title": best}
    for n in asked:
        values = (scores[n] @ weights).tolist()  # (responses,)
        meta = {"kind": "choice", "options": rows[n].responses, "gold": values.index(max(values)), "values": values}
        yield {"query_id": f"{user_id}-p{n}", "user_id": user_id, "text": rows[n].prompt, "meta": meta}


def _standardised(path: Path, rows: Sequence[Row]) -> list[NDArray[Any]]:
    """The scores of each row, (responses, models), every model's with mean 0 and deviation 1 over the table."""
    import numpy as np

    if len(rows) < 4:
        raise DataError(f"{path}: {len(rows)} prompts", hint="histories and questions need four or more")
    models = sorted(rows[0].scores[0])
    if any(sorted(row.scores[0]) != models for row in rows):
        raise DataError(f"{path}: not every row has the same reward models", hint="check the columns")
    tables = [np.array([[score[model] for model in models] for score in row.scores]) for row in rows]
    together = np.concatenate(tables)
    deviation = together.std(axis=0)
    deviation[deviation == 0] = 1.0
    return [(table - together.mean(axis=0)) / deviation for table in tables]
