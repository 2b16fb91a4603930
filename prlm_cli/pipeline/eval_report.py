"""The metrics of generations as a table, which terminal, Markdown and report share, and as a page of HTML."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from markupsafe import Markup

from prlm_cli.core.settings import Config
from prlm_cli.core.workspace import Workspace
from prlm_cli.metrics import direction
from prlm_cli.pipeline.evaluate import Evaluation
from prlm_cli.pipeline.report_examples import best_and_worst, single_examples, user_names
from prlm_cli.pipeline.score_by_size import Sized, size_chart
from prlm_cli.pipeline.second_pass import Generations
from prlm_cli.report.charts import Bar, bar_chart
from prlm_cli.report.estimates import Estimate, estimates
from prlm_cli.report.examples import example_list
from prlm_cli.report.page import Card, cards, figures, heading, page, paragraph
from prlm_cli.report.table import Table

_HEADLINES = ("rougeL", "rouge1")  # the first that applies is what examples and curves are of


def metric_table(found: Evaluation) -> Table:
    """The mean of each metric, for people."""
    rows = [
        [metric, f"{summary.mean:.4f}", f"{summary:.4f}", str(summary.n)] if summary else [metric, "n/a", "n/a", "0"]
        for metric, summary in found.metrics.items()
    ]
    return Table(["metric", "mean", "95 % interval", "n"], rows)


def history_sizes(workspace: Workspace) -> dict[str, int]:
    """How many documents the index holds of each user; empty where there is no index."""
    if not workspace.index.exists():
        return {}
    with workspace.open_store() as store:
        return {user_id: documents for user_id, documents, _ in store.sizes()}


def html_report(
    found: Evaluation, source: Generations, config: Config, *, histories: Mapping[str, int] | None = None
) -> str:
    """The page about an evaluation: metrics, users, the size of the profile, and examples.

    Args:
        found: What the generations scored.
        source: The generations, already read once; read again for the examples, unless `eval.report_text` is off.
        config: Its `eval` and `seed` settings.
        histories: How many documents each user has, where that is known.

    Raises:
        DataError: If the file has changed since it was scored.
    """
    parts = [cards(_summary(found)), heading("Metrics"), estimates(*_estimates(found))]
    if metric := _headline(found):
        parts.append(heading(f"{metric} by user and by size of the profile"))
        parts.append(figures(_charts(metric, found, source, config, histories or {})))
        parts += _examples(metric, found, source, config) if config.eval.report_text else []
    facts = [f"seed {config.seed}", f"{config.eval.bootstrap} resamples of users behind each interval"]
    return page("Evaluation", parts, facts=[f"{found.n} generations", f"{found.users} users", *facts])


def _headline(found: Evaluation) -> str | None:
    applying = [metric for metric, summary in found.metrics.items() if summary]
    return next((metric for metric in (*_HEADLINES, *applying) if metric in applying), None)


def _summary(found: Evaluation) -> Iterator[Card]:
    yield Card("generations", f"{found.n:,}", f"of {found.users:,} users")
    yield Card("policy", ", ".join(found.policies), f"retriever {', '.join(found.retrievers)}")
    for metric, summary in found.metrics.items():
        if summary:
            yield Card(metric, f"{summary.mean:.4f}", f"{summary:.4f}")


def _estimates(found: Evaluation) -> tuple[Sequence[str], list[Estimate]]:
    header, rows = metric_table(found)
    by_metric = {row[0]: row[1:] for row in rows}
    shown = {m: (s.mean, s.low, s.high) if s else (math.nan,) * 3 for m, s in found.metrics.items()}
    return header, [Estimate(metric, *interval, by_metric[metric]) for metric, interval in shown.items()]


def _charts(
    metric: str, found: Evaluation, source: Generations, config: Config, histories: Mapping[str, int]
) -> Iterator[Markup]:
    """Users by their mean, and the mean by the size of what is known of them."""
    owners = found.scores.user_ids
    values = _values(metric, found)
    names = user_names(owners, config.eval)
    by_user: dict[str, list[float]] = {}
    for row, value in values.items():
        by_user.setdefault(owners[row], []).append(value)
    bars = [Bar(names[user_id], math.fsum(own) / len(own)) for user_id, own in by_user.items()]
    yield bar_chart(f"{metric} of each user, highest first", bars, "users", f"mean {metric}")
    known = [row for row in values if owners[row] in histories]
    sizes = {
        "records retrieved": [Sized(source.record_counts[row], value, owners[row]) for row, value in values.items()],
        "user's documents in the index": [Sized(histories[owners[row]], values[row], owners[row]) for row in known],
    }
    for label, rows in sizes.items():
        title = f"{metric} by {label}, with 95 % intervals"
        if chart := size_chart(title, label, metric, {metric: rows}, config.eval.bootstrap, config.seed):
            yield chart


def _examples(metric: str, found: Evaluation, source: Generations, config: Config) -> Iterator[Markup]:
    chosen = best_and_worst(_values(metric, found), direction(metric), config.seed)
    names = user_names(found.scores.user_ids, config.eval)
    yield heading("Examples")
    yield paragraph("Words that the target lacks are marked.")
    yield example_list(single_examples(chosen, found.scores, source, metric, names))


def _values(metric: str, found: Evaluation) -> dict[int, float]:
    """Row -> its score, of the rows that the metric applies to."""
    return {row: value for row, value in enumerate(found.scores[metric]) if value is not None}
