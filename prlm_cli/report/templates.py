"""The templates of this package, filled in: what is not HTML from here is taken for text, and escaped."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from markupsafe import Markup

if TYPE_CHECKING:
    from jinja2 import Environment


def render(template: str, **values: object) -> Markup:
    """The HTML of a template of this folder, `NAME.html.jinja`; a value that the template lacks is an error."""
    return Markup(_environment().get_template(f"{template}.html.jinja").render(**values))


def source(name: str) -> str:
    """The text of a file of this folder, such as a style sheet."""
    loader = _environment().loader
    assert loader
    return loader.get_source(_environment(), name)[0]


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader(__package__, ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
