"""How a text is written, whatever it is about: length, case, punctuation, function words and opening. No model.

Source: Burrows' Delta (Literary and Linguistic Computing 17, 2002): the mean absolute difference of standardised
features. It differs in this:

1. Titles are too short to count single function words; the features are of the whole line.
2. Scales are fixed, so a score does not depend on what else is scored: of a measured feature the standard deviation
   among titles (mean of three sets: 7,901 commit subjects, 6,808 paper titles, 549 blog titles), of a yes-or-no trait
   1/2, the largest that one can have.
3. An opening is compared with how often the user opens so.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

from prlm_cli.core.records import Generation, own_titles
from prlm_cli.core.terms import STOP_WORDS
from prlm_cli.metrics.copy_rate import shown_records

TRAITS: dict[str, Callable[[str], object]] = {
    "tag and colon first": lambda text: re.match(r"\S+( \S+)?:\s", text),
    "number first": lambda text: text[:1].isdigit(),
    "verb in -ing first": lambda text: re.match(r"\w+ing\b", text),
    "question": lambda text: text.endswith("?"),
    "exclamation": lambda text: text.endswith("!"),
    "full stop at the end": lambda text: text.endswith("."),
    "comma": lambda text: "," in text,
    "hashtags": lambda text: "#" in text,
    "brackets": lambda text: "(" in text,
    "dash": lambda text: " - " in text,
    "quoted": lambda text: text.startswith('"'),
}
"""What a title has or has not, by name."""


class Feature(NamedTuple):
    """A number that a text has, and the scale on which a difference counts as 1."""

    of: Callable[[str], float]
    scale: float


def style_match(text: str, titles: Sequence[str]) -> float:
    """How near a text's style is to that of the titles, in (0, 1]: exp(-`delta`)."""
    return math.exp(-delta(text, titles))


def delta(text: str, titles: Sequence[str]) -> float:
    """The mean distance of a text from the mean of the titles, from 0 up, in scales of the features.

    One of its terms is the opening: how much rarer the text's first word opens the titles than their commonest does.

    Args:
        text: Not blank.
        titles: At least one, in any order.
    """
    own = _features(text)
    others = [_features(title) for title in titles]
    distances = [
        abs(value - math.fsum(column) / len(others)) / feature.scale
        for feature, value, column in zip(FEATURES.values(), own, zip(*others, strict=True), strict=True)
    ]
    return math.fsum([*distances, _opening_distance(text, titles)]) / (len(distances) + 1)


def style(generation: Generation) -> float | None:
    """How near the answer's style is to that of the titles shown to the policy, in [0, 1], higher is better.

    exp(-d) of the stylometric distance d in standard deviations; 0.0 where there is no answer, None where no titled
    record of the user was shown.
    """
    titles = own_titles(shown_records(generation))
    if not titles:
        return None
    answer = (generation.answer or "").strip()
    return style_match(answer, titles) if answer else 0.0


def _opening_distance(text: str, titles: Sequence[str]) -> float:
    openings = Counter(_opening(title) for title in titles)
    return (max(openings.values()) - openings[_opening(text)]) / len(titles)


def _opening(text: str) -> str:
    return next(iter(text.casefold().split()), "")


def _trait(has: Callable[[str], object]) -> Callable[[str], float]:
    return lambda text: float(bool(has(text)))


def _share(has: Callable[[str], bool], of: Callable[[str], Sequence[str]]) -> Callable[[str], float]:
    return lambda text: sum(map(has, of(text))) / max(1, len(of(text)))


def _letters(text: str) -> list[str]:
    return [character for character in text if character.isalpha()]


def _is_mark(character: str) -> bool:
    return not (character.isalnum() or character.isspace())


FEATURES: dict[str, Feature] = {
    "log of words": Feature(lambda text: math.log1p(len(text.split())), 0.28),
    "characters a word": Feature(lambda text: len("".join(text.split())) / max(1, len(text.split())), 1.2),
    "capital letters": Feature(_share(str.isupper, _letters), 0.06),
    "capitalised words": Feature(_share(lambda word: word[0].isupper(), str.split), 0.18),
    "digits": Feature(_share(str.isdigit, list), 0.02),
    "marks": Feature(_share(_is_mark, list), 0.02),
    "function words": Feature(_share(lambda word: word.lower() in STOP_WORDS, str.split), 0.10),
    **{name: Feature(_trait(has), 0.5) for name, has in TRAITS.items()},
}
"""What the distance is made of."""


@lru_cache(maxsize=4096)  # a title comes again with every answer to its query
def _features(text: str) -> tuple[float, ...]:
    text = text.strip()
    return tuple(feature.of(text) for feature in FEATURES.values())
