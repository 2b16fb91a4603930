"""Single examples, answers side by side with their differences marked, and fields to filter them by."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from markupsafe import Markup

from prlm_cli.report.diff import differences, unlike
from prlm_cli.report.templates import render

_LONGEST = 2000  # characters of a text
_LONGEST_RECORD = 600
_MOST_RECORDS = 10


class Side(NamedTuple):
    """What one policy made of a query: the answer is None where none could be read."""

    name: str
    answer: str | None
    reasoning: str | None
    score: str


class Example(NamedTuple):
    """A query with its records, and what one policy, or two, made of it.

    `groups` says why it was chosen ("best", "random", ...). `outcome` is "win", "tie" or "loss" where there are two
    sides, else empty. `difference` is what examples are sorted by: of two sides the first's score minus the second's.
    """

    user: str
    query: str
    target: str | None
    records: Sequence[str]
    sides: Sequence[Side]
    difference: float
    groups: Sequence[str]
    outcome: str = ""


def example_list(examples: Sequence[Example]) -> Markup:
    """The examples, with a form that filters and sorts them where scripts run."""
    return render(
        "examples",
        examples=[(example, _answers(example)) for example in examples],
        users=sorted({example.user for example in examples}, key=lambda user: (len(user), user)),  # 2 before 10
        groups=_in_order(group for example in examples for group in example.groups),
        outcomes=_in_order(example.outcome for example in examples if example.outcome),
        shown=shortened,
        longest_record=_LONGEST_RECORD,
        most_records=_MOST_RECORDS,
    )


def shortened(text: str, longest: int = _LONGEST) -> str:
    """The text, or its beginning where it is longer than that many characters."""
    return text if len(text) <= longest else f"{text[:longest]}…"


def _answers(example: Example) -> list[Markup | None]:
    """Two answers against each other; a single one against the target."""
    texts = [None if side.answer is None else shortened(side.answer) for side in example.sides]
    if len(texts) == 2 and texts[0] is not None and texts[1] is not None:
        return list(differences(texts[0], texts[1]))
    target = example.target
    if len(texts) == 1 and texts[0] is not None and target is not None:
        return [unlike(texts[0], target)]
    return [None if text is None else Markup.escape(text) for text in texts]


def _in_order(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
