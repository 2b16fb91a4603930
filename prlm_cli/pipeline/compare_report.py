"""Comparisons of generation files as tables, which terminal, Markdown and report share, and as a page of HTML."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

from markupsafe import Markup

from prlm_cli.core import jsonl
from prlm_cli.core.settings import Config
from prlm_cli.metrics import direction
from prlm_cli.pipeline.aligned import QueryDifference, parts_of
from prlm_cli.pipeline.compare import Compared, Comparison, Counts
from prlm_cli.pipeline.report_examples import OF_EACH_KIND, most_different, paired_examples, user_names
from prlm_cli.pipeline.score_by_size import Sized, size_chart
from prlm_cli.pipeline.second_pass import Generations
from prlm_cli.report.charts import Bar, bar_chart
from prlm_cli.report.estimates import Estimate, estimates
from prlm_cli.report.examples import example_list
from prlm_cli.report.page import Card, cards, figures, heading, page, paragraph, table
from prlm_cli.report.table import Table

_ROWS_HEADER = ["metric", "A", "B", "A - B", "95 % interval", "p", "p (Holm)", "win/tie/loss", "n"]
_USERS_HEADER = ["metric", "users", "by user", "effect size", "worse off", "95 % interval", "least gain"]
_FEWEST = 3  # queries of a user for an interval of their own


def tables(found: Mapping[Path, Compared]) -> Iterator[Table]:
    """How A and each B differ on each metric, and what that is worth to users; B is named where there are several."""
    labelled = [(_label(found, path, c.metric), c) for path, of in found.items() for c in of.comparisons]
    yield Table(_ROWS_HEADER, [[label, *_row(comparison)] for label, comparison in labelled])
    yield Table(_USERS_HEADER, [[label, *_users_row(comparison)] for label, comparison in labelled])


def user_tables(found: Mapping[Path, Compared]) -> Iterator[Table]:
    """Each user's difference, by B and metric, the largest first."""
    for path, compared in found.items():
        for comparison in compared.comparisons:
            rows = [
                [user.user_id, f"{user.a:.4f}", f"{user.b:.4f}", _signed(user.difference), str(user.queries)]
                for user in compared.users(comparison.metric)
            ]
            yield Table([f"{_label(found, path, comparison.metric)} of user", "A", "B", "A - B", "queries"], rows)


def html_report(a: Path, found: Mapping[Path, Compared], sources: Mapping[Path, Generations], config: Config) -> str:
    """The page about A against others: differences, users, the size of the profile, and examples side by side.

    Args:
        a: The file of A.
        found: The comparisons with each B.
        sources: The generations of each file, already read once; read again for the examples, unless
            `eval.report_text` is off.
        config: Its `eval` and `seed` settings.

    Raises:
        DataError: If a file has changed since it was scored.
    """
    parts = [paragraph(f"A is {_name(a)}. Above 0, A scores higher.")]
    count = max(2, OF_EACH_KIND // len(found))
    for path, compared in found.items():
        names = user_names(compared.aligned.a.user_ids, config.eval)
        pair = sources[a], sources[path]
        parts += [heading(f"A against B, {_name(path)}"), *_figures(compared, pair[0], names, config)]
        if config.eval.report_text:
            parts += [heading(f"Examples, A against {_name(path)}"), *_examples(compared, pair, names, count, config)]
    facts = [f"seed {config.seed}", f"{config.eval.bootstrap} resamples of users behind each interval"]
    return page("Comparison", parts, facts=facts)


def _figures(compared: Compared, source: Generations, names: Mapping[str, str], config: Config) -> Iterator[Markup]:
    """Summary, tables and curves of A against one B; the curves are of the first metric."""
    first = compared.comparisons[0]
    queries = compared.aligned.by_query(first.metric)
    yield cards(_summary(first))
    rows = [
        Estimate(c.metric, c.difference.mean, c.difference.low, c.difference.high, _row(c))
        for c in compared.comparisons
    ]
    yield estimates(_ROWS_HEADER, rows, reference=0.0)
    yield table(Table(_USERS_HEADER, [[c.metric, *_users_row(c)] for c in compared.comparisons]))
    charts = [_user_bars(first.metric, queries, names)]
    if chart := _by_records(first.metric, queries, compared, source, config):
        charts.append(chart)
    yield figures(charts)


def _examples(
    compared: Compared,
    sources: tuple[Generations, Generations],
    names: Mapping[str, str],
    count: int,
    config: Config,
) -> Iterator[Markup]:
    metric = compared.comparisons[0].metric
    differences = {query: query.difference for query in compared.aligned.by_query(metric)}
    chosen = most_different(differences, direction(metric), config.seed, count)
    yield paragraph(f"Underlined is what only A wrote, struck through what only B wrote; figures are {metric}, A - B.")
    yield example_list(paired_examples(chosen, compared.aligned, sources, metric, names))


def _summary(first: Comparison) -> Iterator[Card]:
    difference = first.difference
    yield Card(f"{first.metric}, A - B", _signed(difference.mean), f"{difference:+.4f}")
    yield Card("A", f"{first.mean_a:.4f}", first.metric)
    yield Card("B", f"{first.mean_b:.4f}", first.metric)
    yield Card("p", f"{first.p:.4f}", f"{first.p_holm:.4f} for all comparisons (Holm)")
    yield Card("queries", f"{difference.n:,}", f"of {difference.users:,} users")
    if first.by_query:
        yield Card("win/tie/loss", _tally(first.by_query), "by query")
    if first.by_user:
        yield Card("win/tie/loss", _tally(first.by_user), "by user")
    if first.harm:
        yield Card("users worse off", f"{first.harm.mean:.0%}", f"with A than with B {first.harm:.2f}")


def _user_bars(metric: str, queries: Sequence[QueryDifference], names: Mapping[str, str]) -> Markup:
    by_user: dict[str, list[float]] = {}
    for query in queries:
        by_user.setdefault(query.user_id, []).append(query.difference)
    bars = [_bar(names[user_id], own) for user_id, own in by_user.items()]
    whiskers = "; thin lines: 95 % t intervals over queries" if any(bar.low is not None for bar in bars) else ""
    return bar_chart(f"{metric}, A - B, of each user{whiskers}", bars, "users, highest first", "A - B")


def _bar(name: str, differences: Sequence[float]) -> Bar:
    """A user's mean difference with Student's 95 % interval over the queries."""
    n, mean = len(differences), math.fsum(differences) / len(differences)
    if n < _FEWEST:
        return Bar(name, mean)
    variance = math.fsum((difference - mean) ** 2 for difference in differences) / (n - 1)
    half = _quantile(n - 1) * math.sqrt(variance / n)
    return Bar(name, mean, mean - half, mean + half)


@cache
def _quantile(degrees: int) -> float:
    """Of Student's t at 0.975; there are many users, but few numbers of queries."""
    from scipy.stats import t

    return float(t.ppf(0.975, degrees))


def _by_records(
    metric: str, queries: Sequence[QueryDifference], compared: Compared, source: Generations, config: Config
) -> Markup | None:
    """Both scores against the records that A was given."""
    counts = [source.record_counts[compared.aligned.rows[query.query_id][0][0]] for query in queries]
    series = {
        "A": [Sized(count, query.a, query.user_id) for count, query in zip(counts, queries, strict=True)],
        "B": [Sized(count, query.b, query.user_id) for count, query in zip(counts, queries, strict=True)],
    }
    title = f"{metric} by records retrieved for A, with 95 % intervals"
    return size_chart(title, "records retrieved", metric, series, config.eval.bootstrap, config.seed)


def _name(path: Path) -> str:
    return ", ".join("standard input" if part == jsonl.STDIN else part.name for part in parts_of(path))


def _label(found: Mapping[Path, Compared], path: Path, metric: str) -> str:
    return metric if len(found) == 1 else f"{metric} {path}"


def _row(comparison: Comparison) -> list[str]:
    difference = comparison.difference
    return [
        f"{comparison.mean_a:.4f}",
        f"{comparison.mean_b:.4f}",
        _signed(difference.mean),
        f"{difference:+.4f}",
        f"{comparison.p:.4f}",
        f"{comparison.p_holm:.4f}",
        _tally(comparison.by_query),
        str(difference.n),
    ]


def _users_row(comparison: Comparison) -> list[str]:
    effect_size, harm, least_gain = comparison.effect_size, comparison.harm, comparison.least_gain
    return [
        str(comparison.difference.users),
        _tally(comparison.by_user),
        "n/a" if effect_size is None else f"{effect_size:+.2f}",
        f"{harm.mean:.2f}" if harm else "n/a",
        f"{harm:.2f}" if harm else "n/a",
        "n/a" if least_gain is None else f"{least_gain:.4f}",
    ]


def _signed(difference: float) -> str:
    return f"{difference + 0.0:+.4f}"  # a sum with 0.0 is never -0.0


def _tally(counts: Counts | None) -> str:
    return f"{counts.win}/{counts.tie}/{counts.loss}" if counts else "n/a"
