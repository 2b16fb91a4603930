"""METEOR as NLTK computes it: words matched exactly, then by stem, then as synonyms, less a penalty for scattered ones.

Source: Lavie and Agarwal, "METEOR" (WMT 2007), with NLTK's weights alpha 0.9, beta 3, gamma 0.5. Synonyms need the data
of WordNet, which is no package; what is computed without them is another metric, and named so: `meteor_stem`. Words are
split by NLTK's Treebank rules, the whole text as one sentence, as the data that finds sentences is no package either.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any

from prlm_cli.core.errors import MissingError
from prlm_cli.core.records import Generation
from prlm_cli.metrics import target_of


def meteor(generation: Generation) -> float | None:
    """METEOR with synonyms against the target, in [0, 1), higher is better; None without a target.

    Raises:
        MissingError: If the data of WordNet is not installed.
    """
    target = target_of(generation)
    return None if target is None else _score(generation.answer, target, _wordnet())


def meteor_stem(generation: Generation) -> float | None:
    """METEOR by exact and stem matches alone, in [0, 1), higher is better; None without a target."""
    target = target_of(generation)
    return None if target is None else _score(generation.answer, target, _NoSynonyms())


class _NoSynonyms:
    """A WordNet that knows no word."""

    def synsets(self, _word: str) -> list[Any]:
        return []


def _score(answer: str | None, target: str, wordnet: Any) -> float:
    from nltk.translate.meteor_score import single_meteor_score

    hypothesis, reference = _words(answer or ""), _words(target)
    if not hypothesis or not reference:
        return 0.0
    return float(single_meteor_score(reference, hypothesis, stemmer=_stemmer(), wordnet=wordnet))


def _words(text: str) -> list[str]:
    words: list[str] = _tokenizer().tokenize(text)
    return words


@cache
def _tokenizer() -> Any:
    from nltk.tokenize import NLTKWordTokenizer

    return NLTKWordTokenizer()


@cache
def _stemmer() -> Any:
    from nltk.stem.porter import PorterStemmer

    class Remembering(PorterStemmer):  # type: ignore[misc]
        """The stemmer, with the stems of recent words at hand: stemming is most of the time."""

        def __init__(self) -> None:
            super().__init__()
            self.stem = lru_cache(maxsize=2**16)(super().stem)

    return Remembering()


@cache
def _wordnet() -> Any:
    from nltk.corpus import wordnet

    try:
        wordnet.ensure_loaded()
    except LookupError as error:
        raise MissingError(
            "metric 'meteor' needs the data of WordNet, which is not installed",
            hint="python -m nltk.downloader wordnet, or take meteor_stem",
        ) from error
    return wordnet
