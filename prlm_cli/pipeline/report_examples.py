"""The examples of a report: which are worth a look, and what is shown of each."""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterable, Mapping, Sequence

from prlm_cli.core.records import Generation, shown
from prlm_cli.core.settings import EvalSettings
from prlm_cli.metrics import direction
from prlm_cli.pipeline.second_pass import Scored
from prlm_cli.report.examples import Example, Side

OF_EACH_KIND = 10


def user_names(user_ids: Iterable[str], settings: EvalSettings) -> dict[str, str]:
    """What a report calls each user: "user 1" and so on in the order of the input, or the id."""
    numbered = enumerate(dict.fromkeys(user_ids), start=1)
    return {user_id: f"user {n}" if settings.report_users == "numbers" else user_id for n, user_id in numbered}


def best_and_worst(values: Mapping[int, float], better: int, seed: int) -> dict[int, list[str]]:
    """The rows of the best, the worst and some random values, with what each is.

    Args:
        values: One a row.
        better: 1 where a higher value is better, -1 where a lower one is; with 0 the words are "highest" and "lowest".
        seed: Of the random ones.
    """
    count = min(OF_EACH_KIND, max(1, len(values) // 2))  # of few, none is both
    best, worst = ("best", "worst") if better else ("highest", "lowest")
    ranked = {best: _largest(values, count, better or 1), worst: _largest(values, count, -(better or 1))}
    return _named({**ranked, "random": _random(values, seed)})


def most_different(values: Mapping[int, float], better: int, seed: int, count: int) -> dict[int, list[str]]:
    """Of differences A - B: the rows where A is better and worse by most, those that changed most, and random ones."""
    best, worst = ("best", "worst") if better else ("highest", "lowest")
    gains = {row: value * (better or 1) for row, value in values.items()}
    groups = {
        best: _largest({row: gain for row, gain in gains.items() if gain > 0}, count),
        worst: _largest({row: gain for row, gain in gains.items() if gain < 0}, count, -1),
        "most changed": _largest({row: abs(gain) for row, gain in gains.items() if gain}, count),
        "random": _random(values, seed, count),
    }
    return _named(groups)


def single_examples(
    chosen: Mapping[int, list[str]], scored: Scored, metric: str, names: Mapping[str, str]
) -> list[Example]:
    """What one policy made of the chosen rows.

    Raises:
        DataError: If the file has changed since it was scored.
    """
    column = scored.scores[metric]
    found = scored.at(chosen)
    return [
        _example(found[row], names, groups, [_side(found[row], "Answer", metric, column[row])], column[row] or 0.0)
        for row, groups in chosen.items()
    ]


def paired_examples(
    chosen: Mapping[tuple[int, int], list[str]], a: Scored, b: Scored, metric: str, names: Mapping[str, str]
) -> list[Example]:
    """What A and B made of the chosen queries, each a row of A and one of B.

    Raises:
        DataError: If a file has changed since it was scored.
    """
    columns = a.scores[metric], b.scores[metric]
    found_a, found_b = a.at(row for row, _ in chosen), b.at(row for _, row in chosen)
    examples = []
    for (row_a, row_b), groups in chosen.items():
        value_a, value_b = columns[0][row_a], columns[1][row_b]
        sides = [_side(found_a[row_a], "A", metric, value_a), _side(found_b[row_b], "B", metric, value_b)]
        difference = (value_a or 0.0) - (value_b or 0.0)
        outcome = _outcome(difference, direction(metric))
        examples.append(_example(found_a[row_a], names, groups, sides, difference, outcome))
    return examples


def _largest(values: Mapping[int, float], count: int, sign: int = 1) -> list[int]:
    return heapq.nlargest(count, values, key=lambda row: sign * values[row])


def _random(values: Mapping[int, float], seed: int, count: int = OF_EACH_KIND) -> list[int]:
    return random.Random(seed).sample(list(values), min(count, len(values)))


def _named(groups: Mapping[str, Sequence[int]]) -> dict[int, list[str]]:
    """Row -> the groups that it is in, in the order of the groups."""
    named: dict[int, list[str]] = {}
    for group, rows in groups.items():
        for row in rows:
            named.setdefault(row, []).append(group)
    return named


def _outcome(difference: float, better: int) -> str:
    """Of A against B: win, tie or loss; where neither end is better, higher, same or lower."""
    words = ("win", "loss") if better else ("higher", "lower")
    gain = difference * (better or 1)
    return words[0] if gain > 0 else words[1] if gain < 0 else "tie" if better else "same"


def _side(generation: Generation, name: str, metric: str, value: float | None) -> Side:
    return Side(name, generation.answer, generation.reasoning, f"{metric} {value or 0.0:.4f}")


def _example(
    generation: Generation,
    names: Mapping[str, str],
    groups: Sequence[str],
    sides: Sequence[Side],
    difference: float,
    outcome: str = "",
) -> Example:
    return Example(
        user=names[generation.user_id],
        query=generation.text,
        target=generation.target,
        records=[shown(document) for document in generation.profile],
        sides=sides,
        difference=difference,
        groups=groups,
        outcome=outcome,
    )
