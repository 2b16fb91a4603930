"""Whether the answer is what the user wrote."""

from __future__ import annotations

from prlm_cli.core.records import Generation
from prlm_cli.metrics import target_of

_QUOTES = {'"': '"', "'": "'", "`": "`", "\u201c": "\u201d", "\u2018": "\u2019", "\u00ab": "\u00bb"}


def exact_match(generation: Generation) -> float | None:
    """1.0 if answer and target are the same, else 0.0; higher is better; None without a target.

    Case, outer quotes, and how much white space stands between words do not count.
    """
    target = target_of(generation)
    if target is None:
        return None
    return float(generation.answer is not None and _plain(generation.answer) == _plain(target))


def _plain(text: str) -> str:
    text = " ".join(text.split())
    while len(text) >= 2 and _QUOTES.get(text[0]) == text[-1]:
        text = text[1:-1].strip()
    return text.casefold()
