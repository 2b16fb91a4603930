"""A self-contained HTML page and its parts. It fetches nothing, and reads well without its script, which only filters.

What is not HTML from here is taken for text, and escaped. The page's own policy lets nothing run or load but this style
sheet and this script, which it names by their hashes.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from markupsafe import Markup

from prlm_cli.report.table import Table
from prlm_cli.report.templates import render, source
from prlm_cli.version import __version__


class Card(NamedTuple):
    """One figure of a summary: its name, its value, and a word on it, such as its interval."""

    name: str
    value: str
    note: str = ""


def page(title: str, parts: Iterable[Markup], *, facts: Sequence[str] = ()) -> str:
    """The whole document.

    Args:
        title: Its heading.
        parts: From the functions of this package, in their order. Filters get their script.
        facts: What the figures rest on, such as the seed; they stand at the end.
    """
    body = Markup("\n").join(parts)
    style = Markup(source("style.css"))
    script = Markup(source("filters.js") if "data-filters" in body else "")
    return render(
        "page",
        title=title,
        body=body,
        style=style,
        script=script,
        style_hash=_hash(style),
        script_hash=_hash(script) if script else "none",
        facts=[*facts, f"prlm {__version__}"],
    )


def heading(text: str) -> Markup:
    """The heading of a section."""
    return Markup("<h2>{}</h2>").format(text)


def paragraph(text: str) -> Markup:
    """A paragraph."""
    return Markup("<p>{}</p>").format(text)


def table(found: Table) -> Markup:
    """A table; the first column names the row."""
    return render("table", header=found.header, rows=found.rows)


def cards(items: Iterable[Card]) -> Markup:
    """The figures of a summary, side by side."""
    return render("cards", items=list(items))


def figures(charts: Iterable[Markup]) -> Markup:
    """Charts, side by side where there is room."""
    return Markup('<div class="figures">\n{}\n</div>').format(Markup("\n").join(charts))


def _hash(text: str) -> str:
    """As a content security policy names an element by its text."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
