"""A self-contained HTML page, light or dark as the reader's system is: no script, nothing fetched.

What is not HTML from here is taken for text, and escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from markupsafe import Markup


def page(title: str, parts: Iterable[Markup]) -> str:
    """The whole document, of parts from `heading`, `paragraph`, `table` or `charts`."""
    from jinja2 import Environment, PackageLoader

    pages = Environment(loader=PackageLoader(__package__, ""), autoescape=True, trim_blocks=True)
    return pages.get_template("page.html.jinja").render(title=title, parts=parts)


def heading(text: str) -> Markup:
    """The heading of a section."""
    return Markup("<h2>{}</h2>").format(text)


def paragraph(text: str) -> Markup:
    """A paragraph."""
    return Markup("<p>{}</p>").format(text)


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> Markup:
    """A table; the first column is text, the others are figures."""
    lines = [_row("th", header), *(_row("td", row) for row in rows)]
    return Markup("<table>\n{}\n</table>").format(Markup("\n").join(lines))


def _row(tag: str, cells: Sequence[object]) -> Markup:
    return Markup("<tr>{}</tr>").format(Markup("").join(Markup("<{0}>{1}</{0}>").format(tag, cell) for cell in cells))
