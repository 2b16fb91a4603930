"""Text to terms: the words that lexical retrieval counts, as 64-bit hashes.

The words are those of bm25s' defaults: lower case, two or more word characters, Lucene's 33 English stop words left
out, Snowball stems. Hashes need no vocabulary, so no word of one user is kept beside another user's.
"""

from __future__ import annotations

import re
from array import array
from hashlib import blake2b

from Stemmer import Stemmer

FINGERPRINT = r"lower;\w\w+;lucene33;snowball-english;blake2b-64"
"""What a store was tokenised with. It changes whenever the terms of some text change."""

_WORD = re.compile(r"\w\w+")
STOP_WORDS = frozenset(
    [
        "a",
        "an",
        "and",
        "are",
        "as",
        "at",
        "be",
        "but",
        "by",
        "for",
        "if",
        "in",
        "into",
        "is",
        "it",
        "no",
        "not",
        "of",
        "on",
        "or",
        "such",
        "that",
        "the",
        "their",
        "then",
        "there",
        "these",
        "they",
        "this",
        "to",
        "was",
        "will",
        "with",
    ]
)
"""Lucene's English stop words."""
_MAX_CACHED = 1_000_000

_stem = Stemmer("english").stemWord
_hashes: dict[str, int] = {}  # word -> hash, 0 for a stop word; only a cache, so it may be emptied at any time


def terms(text: str) -> array[int]:
    """The hashes of the text's words, sorted, repeats kept, as unsigned 64-bit integers."""
    if len(_hashes) > _MAX_CACHED:
        _hashes.clear()
    found = []
    for word in _WORD.findall(text.lower()):
        value = _hashes.get(word)
        if value is None:
            value = _hashes[word] = 0 if word in STOP_WORDS else _hash(word)
        if value:
            found.append(value)
    found.sort()
    return array("Q", found)


def _hash(word: str) -> int:
    return int.from_bytes(blake2b(_stem(word).encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def fingerprint_of(text: str) -> bytes:
    """Eight bytes that two texts share only if they are equal, white space aside."""
    return blake2b(" ".join(text.split()).encode("utf-8", "surrogatepass"), digest_size=8).digest()


class Tokenizer:
    """A shim."""

    language = "english"
    fingerprint = FINGERPRINT + ";2"

    def terms(self, text: str) -> array[int]:
        """Terms."""
        return terms(text)


_TOKENIZER = Tokenizer()
LANGUAGES = ("none", "english")


def tokenizer(language: str) -> Tokenizer:
    """A tokenizer."""
    return _TOKENIZER
