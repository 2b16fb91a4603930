"""A self-contained HTML page, light or dark as the reader's system is: no script, nothing fetched."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

_STYLE = """
:root { color-scheme: light dark;
  --ink: #1b1b1b; --paper: #fff; --faint: #ddd; --0: #1665b8; --1: #b8561c; --2: #3a7d44 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e4e4; --paper: #16181b; --faint: #3a3d42; --0: #6db0f5; --1: #eb9a62; --2: #7cc488 } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 60rem;
  margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; margin: 1rem 0 } th, td { padding: .2rem .7rem; text-align: right }
th { border-bottom: 1px solid var(--ink) } td { border-bottom: 1px solid var(--faint) }
th:first-child, td:first-child { text-align: left }
svg { width: 22rem; max-width: 100%; margin-right: 1rem; font-size: 11px } svg text { fill: var(--ink) }
svg path, svg polyline { fill: none; stroke: var(--ink); stroke-width: 2 } svg .axis { stroke-width: 1 }
svg .grid { stroke: var(--faint); stroke-width: 1 } svg .reference { stroke-dasharray: 4; stroke-width: 1 }
svg .line0 { stroke: var(--0) } svg .line1 { stroke: var(--1) } svg .line2 { stroke: var(--2) }
svg circle.line0 { fill: var(--0) } svg circle.line1 { fill: var(--1) } svg circle.line2 { fill: var(--2) }
"""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def page(title: str, parts: Iterable[str]) -> str:
    """The whole document. `parts` are HTML: from `heading`, `paragraph`, `table`, or a chart."""
    name = escape(title)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        f'<meta name="viewport" content="width=device-width">\n<title>{name}</title>\n'
        f"<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n<h1>{name}</h1>\n" + "\n".join(parts) + "\n</body>\n</html>\n"
    )


def heading(text: str) -> str:
    """The heading of a section."""
    return f"<h2>{escape(text)}</h2>"


def paragraph(text: str) -> str:
    """A paragraph."""
    return f"<p>{escape(text)}</p>"


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; the first column is text, the others are figures."""
    names = "".join(f"<th>{escape(name)}</th>" for name in header)
    lines = ("".join(f"<td>{escape(str(cell))}</td>" for cell in row) for row in rows)
    return f"<table>\n<tr>{names}</tr>\n" + "\n".join(f"<tr>{line}</tr>" for line in lines) + "\n</table>"
