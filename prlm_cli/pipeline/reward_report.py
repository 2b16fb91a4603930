"""The diagnostics of a reward model as tables, which the terminal and the report share, and as a page of HTML."""

from __future__ import annotations

from collections.abc import Iterator

from markupsafe import Markup

from prlm_cli.metrics.calibration import Calibration
from prlm_cli.metrics.intervals import Interval
from prlm_cli.pipeline.best_of_n import BestOfN
from prlm_cli.pipeline.reward_quality import BLIND, ECHO, HEADLINE, PartQuality, RewardQuality
from prlm_cli.report.charts import Axis, Line, line_chart, steps
from prlm_cli.report.page import figures, heading, page, paragraph, table
from prlm_cli.report.table import Table

_LABELS = {ECHO: "echo rule", BLIND: "blind twin"}


def tables(part: PartQuality) -> Iterator[Table]:
    """The figures of one part, for people."""
    yield _accuracies(part)
    yield _controls(part)
    yield _others(part)
    if part.best_of_n:
        yield _best_of_n(part.best_of_n)


def html_report(name: str, quality: RewardQuality) -> str:
    """The page about a reward model: verdict, tables and plots; figures only, no user's text."""
    parts = [paragraph(f"{name} {quality.verdict}.")]
    for title, part in quality.parts.items():
        parts.append(heading(f"{title}: {part.pairs} pairs of {part.users} users"))
        parts += [table(found) for found in tables(part)]
        charts = [_reliability(part.calibration), *(_curves(part.best_of_n) if part.best_of_n else [])]
        parts.append(figures(charts))
    return page(f"Reward model {name}", parts)


def _accuracies(part: PartQuality) -> Table:
    """Of the model by kind of pair, beside itself without the profile and with another user's."""
    model, ablation = part.model, part.ablation
    rows = [
        [
            kind,
            *_share(share),
            _mean(ablation.removed.kinds[kind]),
            _mean(ablation.swapped.kinds.get(kind) if ablation.swapped else None),
            _mean(model.interaction.kinds.get(kind) if model.interaction else None),
            str(share.n),
            str(share.users),
        ]
        for kind, share in model.accuracy.kinds.items()
    ]
    return Table(
        ["accuracy", "share", "95 % interval", "no profile", "another's", "interaction", "pairs", "users"], rows
    )


def _controls(part: PartQuality) -> Table:
    kinds = list(part.model.accuracy.kinds)
    judged = {"reward model": part.model, **{_LABELS.get(name, name): of for name, of in part.controls.items()}}
    rows = [
        [
            name,
            *(_mean(of.accuracy.kinds[kind]) for kind in kinds),
            _mean(of.accuracy.overall),
            *(_share(of.interaction.overall) if of.interaction else ("n/a", "n/a")),
            "n/a" if of.max_abs_interaction is None else f"{of.max_abs_interaction:.3g}",
        ]
        for name, of in judged.items()
    ]
    alone = part.ablation.answer_alone
    rows.append(["answer alone", *(_mean(alone.kinds[kind]) for kind in kinds), _mean(alone.overall), "", "", ""])
    return Table(["", *kinds, "all", "interaction", "95 % interval", "largest"], rows)


def _others(part: PartQuality) -> Table:
    length, within = part.length, part.within_query
    compared = HEADLINE if HEADLINE in part.model.accuracy.kinds else "accuracy"
    rows = [
        [f"{compared} above the echo rule", *_difference(part.above_echo)],
        ["correlation of score and length", _number(length.score), ""],
        ["correlation of margin and length", _number(length.margin), ""],
        ["accuracy on pairs of the same length", *(_share(length.matched) if length.matched else ("n/a", "n/a"))],
        ["its gap to all pairs", _number(length.gap), ""],
        ["its gap to all pairs of its kinds", _number(length.gap_within_kinds), ""],
        ["calibration error (ECE)", f"{part.calibration.ece:.3f}", ""],
    ]
    if within:
        rows.append(["rank correlation with ROUGE-L in a query", *_difference(within.spearman)])
        rows.append(["the same, Kendall's", *_difference(within.kendall)])
    return Table(["", "value", "95 % interval"], rows)


def _best_of_n(found: BestOfN) -> Table:
    rows = [
        [
            f"best of {point.n}",
            f"{point.reward:.3f}",
            f"{point.rouge_l:.4f}",
            f"{point.random:.4f}",
            f"{point.oracle:.4f}",
            *_difference(point.gain, 4),
            "n/a" if point.oracle_share is None else f"{point.oracle_share:.0%}",
        ]
        for point in found.curve
    ]
    header = [f"of {found.queries} queries", "reward", "ROUGE-L", "random", "oracle", "gain", "95 % interval", "share"]
    return Table(header, rows)


def _reliability(found: Calibration) -> Markup:
    points = [(b.confidence, b.accuracy) for b in found.bins if b.confidence is not None and b.accuracy is not None]
    lines = [Line("pairs", points), Line("as sure as right", [(0.5, 0.5), (1, 1)], "reference")]
    return line_chart("Reliability", lines, Axis("confidence", steps(0.5, 1)), Axis("accuracy", steps(0, 1)))


def _curves(found: BestOfN) -> list[Markup]:
    across = Axis("best of n", [(place, str(point.n)) for place, point in enumerate(found.curve)])
    series = {
        name: [(float(place), getattr(point, field)) for place, point in enumerate(found.curve)]
        for name, field in {"chosen": "rouge_l", "oracle": "oracle", "random": "random", "reward": "reward"}.items()
    }
    lines = [
        Line(name, series[name], "reference" if name == "random" else "line") for name in ("chosen", "oracle", "random")
    ]
    values = [value for line in lines for _, value in line.points]
    return [
        line_chart("Target ROUGE-L", lines, across, Axis("target ROUGE-L", steps(min(values), max(values)))),
        line_chart("Reward", [Line("reward", series["reward"])], across, Axis("reward", steps(0, 1))),
    ]


def _share(share: Interval) -> tuple[str, str]:
    return f"{share.mean:.3f}", f"{share:.3f}"


def _difference(difference: Interval, digits: int = 3) -> tuple[str, str]:
    form = f"+.{digits}f"
    return f"{difference.mean + 0.0:{form}}", f"{difference:{form}}"


def _mean(share: Interval | None) -> str:
    return f"{share.mean:.3f}" if share else "n/a"


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:+.3f}"
