"""How much of the answer was copied from the titles that the policy was shown."""

from __future__ import annotations

import re
from collections.abc import Sequence

from prlm_cli.core.records import Generation, ProfileDocument

_WORDS_AT_ONCE = 4  # four words in a row are rarely the same by chance; three often are, in titles of one author
_WORD = re.compile(r"\w+")


def copy_rate(generation: Generation) -> float | None:
    """Share of the answer's runs of four words that stand in a title shown to the policy, in [0, 1], lower is better.

    None where no record was shown, 0.0 where there is no answer.
    """
    shown = shown_records(generation)
    return copied_share(generation.answer or "", shown) if shown else None


def copied_share(answer: str, records: Sequence[ProfileDocument]) -> float:
    """Share of the answer's runs of four words that stand in a title of the records, in [0, 1].

    A shorter answer is one run. Words are lower-cased. 0.0 for an answer without words.
    """
    words = _words(answer)
    size = min(_WORDS_AT_ONCE, len(words))
    if size == 0:
        return 0.0
    titles = {run for record in records for run in _runs(_words(record.title or ""), size)}
    runs = _runs(words, size)
    return sum(run in titles for run in runs) / len(runs)


def shown_records(generation: Generation) -> list[ProfileDocument]:
    """The records that the policy was shown: a prompt that is too long leaves out the worst, as `usage` says."""
    usage = generation.usage
    return generation.profile if usage is None else generation.profile[: usage.records]


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _runs(words: list[str], size: int) -> list[tuple[str, ...]]:
    return [tuple(words[start : start + size]) for start in range(len(words) - size + 1)]
