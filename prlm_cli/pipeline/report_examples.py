"""The examples of a report: which are worth a look, and what is shown of each."""

from __future__ import annotations

import heapq
import random
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

from prlm_cli.core.records import Generation, shown
from prlm_cli.core.settings import EvalSettings
from prlm_cli.metrics import direction
from prlm_cli.pipeline.aligned import TIE, Aligned, QueryDifference, outcome
from prlm_cli.pipeline.evaluate import Scores
from prlm_cli.pipeline.second_pass import Generations
from prlm_cli.report.examples import Example, Side

OF_EACH_KIND = 10
Key = TypeVar("Key", bound=Hashable)


def user_names(user_ids: Iterable[str], settings: EvalSettings) -> dict[str, str]:
    """What a report calls each user: "user 1" and so on in the order of the input, or the id."""
    numbered = enumerate(dict.fromkeys(user_ids), start=1)
    return {user_id: f"user {n}" if settings.report_users == "numbers" else user_id for n, user_id in numbered}


def best_and_worst(values: Mapping[Key, float], better: int, seed: int) -> dict[Key, list[str]]:
    """The keys of the best, the worst and some random values, with what each is.

    Args:
        values: Such as the score of each row.
        better: 1 where a higher value is better, -1 where a lower one is; with 0 the words are "highest" and "lowest".
        seed: Of the random ones.
    """
    count = min(OF_EACH_KIND, max(1, len(values) // 2))  # of few, none is both
    best, worst = ("best", "worst") if better else ("highest", "lowest")
    ranked = {best: _largest(values, count, better or 1), worst: _largest(values, count, -(better or 1))}
    return _named({**ranked, "random": _random(values, seed)})


def most_different(values: Mapping[Key, float], better: int, seed: int, count: int) -> dict[Key, list[str]]:
    """Of differences A - B: the keys where A is better and worse by most, those that changed most, and random ones."""
    best, worst = ("best", "worst") if better else ("highest", "lowest")
    gains = {key: value * (better or 1) for key, value in values.items()}
    groups = {
        best: _largest({key: gain for key, gain in gains.items() if gain > TIE}, count),
        worst: _largest({key: gain for key, gain in gains.items() if gain < -TIE}, count, -1),
        "most changed": _largest({key: abs(gain) for key, gain in gains.items() if abs(gain) > TIE}, count),
        "random": _random(values, seed, count),
    }
    return _named(groups)


def single_examples(
    chosen: Mapping[int, list[str]], scores: Scores, source: Generations, metric: str, names: Mapping[str, str]
) -> list[Example]:
    """What one policy made of the chosen rows.

    Raises:
        DataError: If the file has changed since it was scored.
    """
    column = scores[metric]
    found = source.at({row: scores.query_ids[row] for row in chosen})
    return [
        _example(found[row], names, groups, [_side(found[row], "Answer", metric, column[row])], column[row] or 0.0)
        for row, groups in chosen.items()
    ]


def paired_examples(
    chosen: Mapping[QueryDifference, list[str]],
    aligned: Aligned,
    sources: tuple[Generations, Generations],
    metric: str,
    names: Mapping[str, str],
) -> list[Example]:
    """What A and B made of the chosen queries; of a query that was answered with several seeds, the first of each.

    Raises:
        DataError: If a file has changed since it was scored.
    """
    rows = {query: [own[0] for own in aligned.rows[query.query_id]] for query in chosen}
    found = [source.at({own[n]: query.query_id for query, own in rows.items()}) for n, source in enumerate(sources)]
    columns = aligned.a[metric], aligned.b[metric]
    examples = []
    for query, groups in chosen.items():
        answers = [at[row] for at, row in zip(found, rows[query], strict=True)]
        values = [column[row] for column, row in zip(columns, rows[query], strict=True)]
        sides = [_side(one, name, metric, value) for one, name, value in zip(answers, "AB", values, strict=True)]
        result = _outcome(metric, query.difference)
        examples.append(_example(answers[0], names, groups, sides, query.difference, result))
    return examples


def _largest(values: Mapping[Key, float], count: int, sign: int = 1) -> list[Key]:
    return heapq.nlargest(count, values, key=lambda key: sign * values[key])


def _random(values: Mapping[Key, float], seed: int, count: int = OF_EACH_KIND) -> list[Key]:
    return random.Random(seed).sample(list(values), min(count, len(values)))


def _named(groups: Mapping[str, Sequence[Key]]) -> dict[Key, list[str]]:
    """Key -> the groups that it is in, in the order of the groups."""
    named: dict[Key, list[str]] = {}
    for group, keys in groups.items():
        for key in keys:
            named.setdefault(key, []).append(group)
    return named


def _outcome(metric: str, difference: float) -> str:
    """Of A against B: win, tie or loss; where neither end is better, higher, same or lower."""
    if direction(metric):
        return {1: "win", 0: "tie", -1: "loss"}[outcome(metric, difference)]
    return "same" if abs(difference) <= TIE else "higher" if difference > 0 else "lower"


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
