"""Comparisons of generation files as a table, which terminal, Markdown and report share, and as a page of HTML."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup

from prlm_cli.core import jsonl
from prlm_cli.core.settings import Config
from prlm_cli.metrics import direction
from prlm_cli.pipeline.compare import Comparison, Counts
from prlm_cli.pipeline.evaluate import Scores
from prlm_cli.pipeline.report_examples import OF_EACH_KIND, most_different, paired_examples, user_names
from prlm_cli.pipeline.score_by_size import Sized, size_chart
from prlm_cli.pipeline.second_pass import Scored
from prlm_cli.report.charts import Bar, bar_chart
from prlm_cli.report.estimates import Estimate, estimates
from prlm_cli.report.examples import example_list
from prlm_cli.report.page import Card, cards, figures, heading, page, paragraph
from prlm_cli.report.table import Table

_HEADER = ["metric", "A", "B", "A - B", "95 % interval", "p", "win/tie/loss", "by user", "n"]
_FEWEST = 3  # queries of a user for an interval of their own


class _Pair(NamedTuple):
    """A query that both answered: its row in A and in B, and their scores."""

    row_a: int
    row_b: int
    a: float
    b: float


def comparison_table(found: Mapping[Path, Sequence[Comparison]]) -> Table:
    """A row for each metric and B, for people; B is named where there are several."""
    rows = [
        [comparison.metric + (f" {path}" if len(found) > 1 else ""), *_cells(comparison)]
        for path, comparisons in found.items()
        for comparison in comparisons
    ]
    return Table(_HEADER, rows)


def html_report(a: Scored, others: Sequence[tuple[Scored, Sequence[Comparison]]], config: Config) -> str:
    """The page about A against others: differences, users, the size of the profile, and examples side by side.

    Args:
        a: Generations that were read once; read again for the examples, unless `eval.report_text` is off.
        others: What A is held against, with the comparison on each metric.
        config: Its `eval` and `seed` settings.

    Raises:
        DataError: If a file has changed since it was scored.
    """
    names = user_names(a.scores.user_ids, config.eval)
    parts = [paragraph(f"A is {_name(a)}. Above 0, A scores higher.")]
    for b, comparisons in others:
        parts += _figures(a, b, comparisons, names, config)
        if config.eval.report_text:
            parts += _examples(a, b, comparisons[0].metric, names, config.seed, max(2, OF_EACH_KIND // len(others)))
    facts = [f"seed {config.seed}", f"{config.eval.bootstrap} resamples of users behind each interval"]
    return page("Comparison", parts, facts=facts)


def _figures(
    a: Scored, b: Scored, comparisons: Sequence[Comparison], names: Mapping[str, str], config: Config
) -> Iterator[Markup]:
    """The section about one other file; its curves are of the first metric."""
    first = comparisons[0]
    pairs = list(_pairs(a.scores, b.scores, first.metric))
    yield heading(f"A against B, {_name(b)}")
    yield cards(_summary(first))
    rows = [Estimate(c.metric, c.difference.mean, c.difference.low, c.difference.high, _cells(c)) for c in comparisons]
    yield estimates(_HEADER, rows, reference=0.0)
    bars = [_bar(names[user_id], own) for user_id, own in _by_user(pairs, a.scores).items()]
    whiskers = "; thin lines: 95 % t intervals over queries" if any(bar.low is not None for bar in bars) else ""
    title = f"{first.metric}, A - B, of each user{whiskers}"
    charts = [bar_chart(title, bars, "users, highest first", "A - B")]
    if chart := _by_records(first.metric, pairs, a, config):
        charts.append(chart)
    yield figures(charts)


def _examples(a: Scored, b: Scored, metric: str, names: Mapping[str, str], seed: int, count: int) -> Iterator[Markup]:
    pairs = list(_pairs(a.scores, b.scores, metric))
    differences = {place: pair.a - pair.b for place, pair in enumerate(pairs)}
    by_place = most_different(differences, direction(metric), seed, count)
    chosen = {(pairs[place].row_a, pairs[place].row_b): groups for place, groups in by_place.items()}
    yield heading(f"Examples, A against {_name(b)}")
    yield paragraph(f"Underlined is what only A wrote, struck through what only B wrote; figures are {metric}, A - B.")
    yield example_list(paired_examples(chosen, a, b, metric, names))


def _summary(first: Comparison) -> Iterator[Card]:
    difference = first.difference
    yield Card(f"{first.metric}, A - B", f"{difference.mean + 0.0:+.4f}", f"{difference:+.4f}")
    yield Card("A", f"{first.mean_a:.4f}", first.metric)
    yield Card("B", f"{first.mean_b:.4f}", first.metric)
    yield Card("p", f"{first.p:.4f}", "two-sided")
    yield Card("queries", f"{difference.n:,}", f"of {difference.users:,} users")
    if first.by_query and first.by_user:
        yield Card("win/tie/loss", _tally(first.by_query), "by query")
        yield Card("win/tie/loss", _tally(first.by_user), "by user")
        yield Card("users made worse", f"{first.by_user.loss / difference.users:.0%}", "by A, of all")


def _cells(comparison: Comparison) -> list[str]:
    difference = comparison.difference
    return [
        f"{comparison.mean_a:.4f}",
        f"{comparison.mean_b:.4f}",
        f"{difference.mean + 0.0:+.4f}",
        f"{difference:+.4f}",
        f"{comparison.p:.4f}",
        _tally(comparison.by_query),
        _tally(comparison.by_user),
        str(difference.n),
    ]


def _tally(counts: Counts | None) -> str:
    return f"{counts.win}/{counts.tie}/{counts.loss}" if counts else "n/a"


def _pairs(a: Scores, b: Scores, metric: str) -> Iterator[_Pair]:
    rows_b = {query_id: row for row, query_id in enumerate(b.query_ids)}
    column_a, column_b = a[metric], b[metric]
    for row_a, query_id in enumerate(a.query_ids):
        row_b = rows_b.get(query_id)
        if row_b is None:
            continue
        value_a, value_b = column_a[row_a], column_b[row_b]
        if value_a is not None and value_b is not None:
            yield _Pair(row_a, row_b, value_a, value_b)


def _by_user(pairs: Sequence[_Pair], scores: Scores) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for pair in pairs:
        found.setdefault(scores.user_ids[pair.row_a], []).append(pair.a - pair.b)
    return found


def _bar(name: str, differences: Sequence[float]) -> Bar:
    """A user's mean difference with Student's 95 % interval over the queries."""
    from scipy.stats import t

    n, mean = len(differences), math.fsum(differences) / len(differences)
    if n < _FEWEST:
        return Bar(name, mean)
    variance = math.fsum((difference - mean) ** 2 for difference in differences) / (n - 1)
    half = float(t.ppf(0.975, n - 1)) * math.sqrt(variance / n)
    return Bar(name, mean, mean - half, mean + half)


def _by_records(metric: str, pairs: Sequence[_Pair], a: Scored, config: Config) -> Markup | None:
    """Both scores against the records that A was given."""
    sized = [(a.source.record_counts[pair.row_a], pair, a.scores.user_ids[pair.row_a]) for pair in pairs]
    series = {
        "A": [Sized(size, pair.a, user_id) for size, pair, user_id in sized],
        "B": [Sized(size, pair.b, user_id) for size, pair, user_id in sized],
    }
    title = f"{metric} by records retrieved for A, with 95 % intervals"
    return size_chart(title, "records retrieved", metric, series, config.eval.bootstrap, config.seed)


def _name(scored: Scored) -> str:
    path = scored.source.path
    return "standard input" if path == jsonl.STDIN else path.name
