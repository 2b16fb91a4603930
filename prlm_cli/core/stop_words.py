"""The words too common to count, by language: Lucene's for English, those that bm25s carries for eleven others."""

from __future__ import annotations

import importlib.util
from importlib.machinery import PathFinder

from prlm_cli.core.errors import MissingError

_ENGLISH = (
    "a an and are as at be but by for if in into is it no not of on or such that the their then there these they this"
    " to was will with"
)
_NAMES = {
    "danish": "STOPWORDS_DANISH",
    "dutch": "STOPWORDS_DUTCH",
    "dutch_porter": "STOPWORDS_DUTCH",
    "french": "STOPWORDS_FRENCH",
    "german": "STOPWORDS_GERMAN",
    "italian": "STOPWORDS_ITALIAN",
    "norwegian": "STOPWORDS_NORWEGIAN",
    "portuguese": "STOPWORDS_PORTUGUESE",
    "russian": "STOPWORDS_RUSSIAN",
    "spanish": "STOPWORDS_SPANISH",
    "swedish": "STOPWORDS_SWEDISH",
    "turkish": "STOPWORDS_TURKISH",
}


def stop_words(language: str) -> frozenset[str]:
    """The stop words of a language, in lower case; empty where no list is known.

    Raises:
        MissingError: If the list is one that bm25s carries, and bm25s is not there.
    """
    if language == "english":
        return frozenset(_ENGLISH.split())
    if language in _NAMES:
        return frozenset(_list_of_bm25s(_NAMES[language]))
    return frozenset()


def _list_of_bm25s(name: str) -> tuple[str, ...]:
    # Through the file and not the package, whose import takes longer than a whole query.
    package = importlib.util.find_spec("bm25s")
    spec = PathFinder.find_spec("stopwords", package.submodule_search_locations if package else [])
    if spec is None or spec.loader is None:
        raise MissingError("the stop words of bm25s are not there", hint="run `pip install --upgrade bm25s`")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    words: tuple[str, ...] = getattr(module, name)
    return words
