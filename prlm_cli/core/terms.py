"""Text to terms: the words that lexical retrieval counts, as 64-bit hashes.

For English the words are those of bm25s' defaults: lower case, two or more word characters, Lucene's 33 stop words left
out, Snowball stems. Beyond that, in any language:

1. Text is brought into Unicode's form NFC, and combining marks belong to their word, as the vowel signs of Hindi do.
2. A run of a script that is written without spaces is cut into overlapping pairs of characters.
3. A final sigma counts as a sigma and a dotted i as an i, so that a word's place and case make no difference.

Hashes need no vocabulary, so no word of one user is kept beside another user's.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from hashlib import blake2b
from itertools import accumulate, pairwise
from operator import add
from struct import unpack

import Stemmer

from prlm_cli.core.errors import SettingsError, did_you_mean
from prlm_cli.core.stop_words import stop_words

LANGUAGES = ("none", *(name for name in Stemmer.algorithms() if name != "porter"))
"""What `tokenizer` knows: "none" for mixed languages (no stems, no stop words), and those with a Snowball stemmer."""
STOP_WORDS = stop_words("english")
"""Lucene's English stop words."""

_RULES = f"lower;nfc;marks;pairs;{unicodedata.unidata_version};blake2b-64"
_WHITE_SPACE = b" \t\n\r\v\f"
_MAX_KEPT = 150_000  # pieces; with the words beside them 40 MB of English, 55 MB of Chinese
_MANY_TEXTS = 500  # sorting so many takes longer than importing numpy
_MAX_KEPT_BYTES = 48  # a longer piece, such as a sentence in Chinese, hardly comes again

# Lower-cases ASCII and turns what ends a word in it into spaces; the bytes of all other characters pass.
_ASCII = "".join(chr(n).lower() if chr(n).isalnum() or chr(n) == "_" else " " for n in range(128)).encode()
_TABLE = _ASCII + bytes(range(128, 256))

_ASCII_WORD = re.compile(r"\w\w+")
_NO_WORD = re.compile(r"[^\w\s]")
# Once `_normalised` has run, what is neither \w nor \s is a combining mark. A word does not begin with one.
_WORD = re.compile(r"\w\S+")
_CHARACTER = re.compile(r"\w[^\w\s]*")
_UNSPACED = (
    r"\u0e00-\u0eff"  # Thai, Lao
    r"\u1000-\u109f\u1780-\u17ff"  # Burmese, Khmer
    r"\u1100-\u11ff\u3131-\u318e\ua960-\ua97f\uac00-\ud7ff\uffa0-\uffdc"  # Hangul
    r"\u3041-\u30ff\u31f0-\u31ff\uff66-\uff9f\U0001b000-\U0001b16f"  # Kana
    r"\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Han
)
_FIRST_UNSPACED = "\u0e00"


class Tokenizer:
    """Cuts texts of one language into terms. Make one with `tokenizer`, which keeps it.

    Args:
        language: One of `LANGUAGES`.

    Attributes:
        language: The same.
        fingerprint: What a store was tokenised with. It changes whenever the terms of some text may change.
    """

    def __init__(self, language: str) -> None:
        self.language = language
        self._stop_words = frozenset(map(_normalised, stop_words(language)))
        self._stem_word: Callable[[str], str] = str if language == "none" else Stemmer.Stemmer(language).stemWord
        # Words are kept apart from pieces, too: a Chinese sentence never comes again, but its pairs of characters do.
        self._hashes = _Hashes(lru_cache(_MAX_KEPT // 4)(self._hash))
        stemmer = "" if language == "none" else f"snowball-{Stemmer.version()}"
        listed = blake2b(" ".join(sorted(self._stop_words)).encode(), digest_size=4).hexdigest()
        self.fingerprint = f"{language};{stemmer};{listed};{_RULES}"

    def __reduce__(self) -> tuple[Callable[[str], Tokenizer], tuple[str]]:
        return tokenizer, (self.language,)  # a stemmer cannot be sent to another process

    def words(self, text: str) -> list[str]:
        """The stems of the text's words in their order, stop words left out."""
        return [stem for word in _cut(text) if (stem := self._stem(word))]

    def terms(self, text: str) -> array[int]:
        """The hashes of `words`, sorted, repeats kept, as unsigned 64-bit integers."""
        joined = self._joined(text)
        hashes = array("Q", b"".join(sorted(joined[i : i + 8] for i in range(0, len(joined), 8))))
        if sys.byteorder == "little":
            hashes.byteswap()
        return hashes

    def counts(self, text: str) -> Counter[int]:
        """How often each of the `terms` stands in the text."""
        joined = self._joined(text)
        return Counter(unpack(f">{len(joined) >> 3}Q", joined))

    def packed_terms(self, texts: Sequence[str]) -> list[bytes]:
        """`terms` of each text, as their bytes, least significant first; numpy sorts where there are many."""
        if len(texts) < _MANY_TEXTS:
            return [self.terms(text).tobytes() for text in texts]
        import numpy as np

        joined = [self._joined(text) for text in texts]
        hashes = np.frombuffer(b"".join(joined), dtype=">u8").astype("<u8")
        ends = list(accumulate(len(part) >> 3 for part in joined))
        parts = [hashes[start:end] for start, end in pairwise([0, *ends])]
        for part in parts:
            part.sort()
        return [part.tobytes() for part in parts]

    def _joined(self, text: str) -> bytes:
        """The hashes of the text's words as `_Hashes` keeps them, in the order of the words."""
        # Cutting at ASCII separators first changes no word, and nearly all pieces were met before: a look-up for each.
        pieces = text.encode("utf-8", "surrogatepass").translate(_TABLE).split()
        return b"".join(map(self._hashes.__getitem__, pieces))

    def _stem(self, word: str) -> str:
        """The word's stem; empty for a stop word, and for one of which the stemmer leaves nothing."""
        return "" if word in self._stop_words else self._stem_word(word)

    def _hash(self, word: str) -> bytes:
        """The word's hash as `_Hashes` keeps it."""
        stem = self._stem(word)
        return blake2b(stem.encode(), digest_size=8).digest()[::-1] if stem else b""


@cache
def tokenizer(language: str) -> Tokenizer:
    """The tokeniser of a language, with what it has learnt so far.

    Raises:
        SettingsError: If the language is not one of `LANGUAGES`.
    """
    if language not in LANGUAGES:
        raise SettingsError(f"no language '{language}'", hint=did_you_mean(language, LANGUAGES))
    return Tokenizer(language)


def fingerprint_of(text: str) -> bytes:
    """Eight bytes that two texts share only if they are equal, ASCII's white space aside."""
    return blake2b(text.encode("utf-8", "surrogatepass").translate(None, _WHITE_SPACE), digest_size=8).digest()


class _Hashes(dict[bytes, bytes]):
    """From a piece of text, in UTF-8, to the hashes of its words; only a cache, which fills and empties itself.

    A hash is kept as its eight bytes, the highest first, which sort as the number does; several are joined, and a piece
    without a word has none. So joining them needs no look at each.
    """

    def __init__(self, hash_of: Callable[[str], bytes]) -> None:
        self._hash_of = hash_of

    def __missing__(self, piece: bytes) -> bytes:
        hashes = b"".join(map(self._hash_of, _cut(piece.decode("utf-8", "surrogatepass"))))
        if len(piece) <= _MAX_KEPT_BYTES:
            if len(self) >= _MAX_KEPT:
                self.clear()
            self[piece] = hashes
        return hashes


def _cut(text: str) -> list[str]:
    """The text's words, in their order."""
    if text.isascii():  # the rest would change nothing, and takes longer
        return _ASCII_WORD.findall(text.lower())
    text = _normalised(text)
    if max(text) < _FIRST_UNSPACED:
        return _WORD.findall(text)
    words: list[str] = []
    for number, part in enumerate(_unspaced_runs().split(text)):
        if number % 2:
            characters = _CHARACTER.findall(part)
            words += map(add, characters, characters[1:]) if len(characters) > 1 else characters
        else:
            words += _WORD.findall(part)
    return words


@cache  # not above, with the others: it takes as long to compile as all else here takes to import
def _unspaced_runs() -> re.Pattern[str]:
    return re.compile(rf"((?:(?=\w)[{_UNSPACED}][^\w\s]*)+)")


def _normalised(text: str) -> str:
    """The text in lower case and NFC, with spaces for all that is no part of a word."""
    # NFC comes second because lower case may compose where upper case does not: J with caron has no character, j has.
    text = unicodedata.normalize("NFC", text.lower()).replace("\u03c2", "\u03c3").replace("i\u0307", "i")
    return _NO_WORD.sub(_mark_or_space, text)


def _mark_or_space(character: re.Match[str]) -> str:
    return character[0] if unicodedata.category(character[0]) in ("Mn", "Mc") else " "
