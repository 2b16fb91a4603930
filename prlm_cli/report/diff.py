"""Two texts with the words marked in which they differ."""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import SequenceMatcher

from markupsafe import Markup

_WORD = re.compile(r"\s+|[^\W_]+|[\W_]", re.UNICODE)
_MOST_WORDS = 3000  # of both texts; the time grows with their product


def differences(a: str, b: str) -> tuple[Markup, Markup]:
    """`a` with what only it has as inserted, and `b` with what only it has as deleted, by words."""
    own, other = _words(a), _words(b)
    if len(own) + len(other) > _MOST_WORDS:
        return Markup.escape(a), Markup.escape(b)
    blocks = SequenceMatcher(None, own, other, autojunk=False).get_opcodes()
    first = _joined(((own[start:end], kind != "equal") for kind, start, end, _, _ in blocks), "ins")
    second = _joined(((other[start:end], kind != "equal") for kind, _, _, start, end in blocks), "del")
    return first, second


def unlike(text: str, target: str) -> Markup:
    """The text with the words marked that the target lacks; case and order do not count, as in ROUGE."""
    known = {word.casefold() for word in _words(target)}
    return _joined((([word], word.strip() != "" and word.casefold() not in known) for word in _words(text)), "mark")


def _words(text: str) -> list[str]:
    return _WORD.findall(text)


def _joined(runs: Iterator[tuple[list[str], bool]], tag: str) -> Markup:
    parts = []
    for words, is_marked in runs:
        text = "".join(words)
        parts.append(Markup("<{0}>{1}</{0}>").format(tag, text) if is_marked and text else Markup.escape(text))
    return Markup("").join(parts)
