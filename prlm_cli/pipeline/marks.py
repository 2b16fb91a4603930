"""Where bytes of some texts still stand: all parts of them are hashed, and files are searched for all in one pass.

A mark is the hash of 24 bytes of a text. Texts are hashed at every byte and files at every eighth, as words of 8 bytes:
whatever holds 31 bytes of a text in one piece holds a mark of it, and 39 bytes two that are neighbours, wherever they
begin. Shorter texts have no mark that is sure to be met, and what is compressed is not looked into. The hashes are of
64 bits: a file of 10 GB meets one of four million by chance once in 4,000 searches.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_MARKS = 2**22
"""Of texts that have more, an even sample is kept: 34 MB. A document of a few hundred bytes still has several."""

MAX_STRING = 32
_STEP = 8
_WORDS = 3  # of 8 bytes: the length of a mark
_BLOCK = 2**21  # bytes of a file, or of texts, that are held at once
_CHUNK = 2**15  # words that are hashed at once: they stay in the processor's cache
_NO_MARK = 0
_MULTIPLIERS = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)  # SplitMix64's


class Marks:
    """A set of marks, and of short strings that are searched for as they are.

    Args:
        hashes: Ascending, each once.
        strings: Of at most 32 bytes.
    """

    def __init__(self, hashes: NDArray[Any], strings: Iterable[bytes] = ()) -> None:
        self.hashes = hashes
        self.strings = frozenset(strings)

    def __bool__(self) -> bool:
        return bool(len(self.hashes) or self.strings)

    def __sub__(self, other: Marks) -> Marks:
        import numpy as np

        kept = np.isin(self.hashes, other.hashes, assume_unique=True, invert=True)
        return Marks(self.hashes[kept], self.strings - other.strings)

    def found_in(self, data: bytes) -> Marks:
        """Those that stand in the data."""
        return Marks(_distinct(map(self._known, _hashes(data, 1))), (text for text in self.strings if text in data))

    def found_in_file(self, path: Path) -> Marks:
        """Those that stand in the file, which is read in blocks."""
        hashes: list[NDArray[Any]] = []
        strings: set[bytes] = set()
        for data in _blocks_of(path):
            hashes += map(self._known, _hashes(data, _STEP))
            strings.update(text for text in self.strings if text in data)
        return Marks(_distinct(hashes), strings)

    def have_neighbours_in(self, path: Path) -> bool:
        """Whether two of them stand next to each other in the file, or a string in it.

        One alone may be chance: the end of one text and the beginning of another that a file keeps next to it.
        """
        import numpy as np

        for data in _blocks_of(path):
            if any(text in data for text in self.strings):
                return True
            for hashes in _hashes(data, _STEP):
                known = np.isin(hashes, self._known(hashes))
                if (known[1:] & known[:-1]).any():
                    return True
        return False

    def _known(self, hashes: NDArray[Any]) -> NDArray[Any]:
        """Those of the hashes that are marks, in ascending order."""
        import numpy as np

        for shift, table in self._tables:  # two look-ups, and few are left that have to be searched for
            bits = self._bits(hashes, shift)
            is_set = table.take((bits >> np.uint64(3)).view(np.int64)) >> (bits & np.uint64(7)).astype(np.uint8) & 1
            hashes = hashes[is_set.view(bool)]
        hashes = np.sort(hashes)  # one look-up then begins near where the last one ended
        places = np.searchsorted(self.hashes, hashes)
        known: NDArray[Any] = hashes[self.hashes.take(places, mode="clip") == hashes] if len(self.hashes) else hashes
        return known

    @cached_property
    def _tables(self) -> list[tuple[int, NDArray[Any]]]:
        """Two tables of bits, each with a bit set for some bits of every mark: where those begin, and the table."""
        import numpy as np

        found = []
        for shift in (64 - self._width, 64 - 2 * self._width):
            table = np.zeros(2**self._width, dtype=bool)
            table[self._bits(self.hashes, shift)] = True
            found.append((shift, np.packbits(table, bitorder="little")))
        return found

    @cached_property
    def _width(self) -> int:
        return max(16, len(self.hashes).bit_length() + 4)

    def _bits(self, hashes: NDArray[Any], shift: int) -> NDArray[Any]:
        import numpy as np

        return (hashes >> np.uint64(shift)) & np.uint64(2**self._width - 1)


def union(sets: Iterable[Marks]) -> Marks:
    """All marks of some sets."""
    every = list(sets)
    hashes = _distinct(found.hashes for found in every)
    return Marks(hashes[:MAX_MARKS], (text for found in every for text in found.strings))


def marks_of(pieces: Iterable[bytes], strings: Iterable[bytes] = ()) -> Marks:
    """The marks of every part of some texts, or of a sample of their parts."""
    kept = _distinct([])
    for block in blocks(pieces):
        hashes = _distinct([kept, *_hashes(block, 1)])
        kept = hashes[hashes != _NO_MARK][:MAX_MARKS]  # the smallest are as good a sample as any
    return Marks(kept, strings)


def blocks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The texts in few long pieces; NUL, which no text holds, keeps them apart."""
    waiting: list[bytes] = []
    size = 0
    for piece in pieces:
        waiting.append(piece)
        size += len(piece) + 1
        if size > _BLOCK:
            yield b"\0".join(waiting)
            waiting, size = [], 0
    if waiting:
        yield b"\0".join(waiting)


def spellings(record: Any, without: Sequence[str] = ()) -> set[bytes]:
    """All strings in a record, each as files may spell it: as it is, and as JSON in UTF-8 and in ASCII.

    Args:
        record: A record, or what JSON is made of.
        without: Fields of the record that are passed over.
    """
    text = " ".join(_strings(record, without))
    return {text.encode(), *quoted(text)}


def quoted(text: str) -> set[bytes]:
    """The text as JSON without its quotation marks, in UTF-8 and in ASCII."""
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return {text.encode()}
    return {msgspec.json.encode(text)[1:-1], json.dumps(text)[1:-1].encode()}


def _strings(value: Any, without: Sequence[str] = ()) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            if name not in without:
                yield from _strings(getattr(value, name))
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item)


def _blocks_of(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        data = b""
        while block := stream.read(_BLOCK):
            data = data[-MAX_STRING:] + block  # what lies across two blocks is seen in the second
            yield data


def _hashes(data: bytes, step: int) -> Iterator[NDArray[Any]]:
    """The hashes of 24 bytes each, at every `step` bytes (1 or 8), in chunks of which each repeats the last one's end.

    Of one pattern repeated it is `_NO_MARK`: rules and blanks are in everybody's files.
    """
    import numpy as np

    for start in range(0, _STEP, step):
        words = np.frombuffer(data, dtype="<u8", offset=min(start, len(data)), count=max(0, len(data) - start) // 8)
        count = len(words) - _WORDS + 1
        for first in range(0, count, _CHUNK - 1):
            parts = [words[first + n : min(first + _CHUNK, count) + n] for n in range(_WORDS)]
            hashes = parts[0] * np.uint64(_MULTIPLIERS[0])
            for part, multiplier in zip(parts[1:], _MULTIPLIERS[1:], strict=True):
                hashes ^= hashes >> np.uint64(29)
                hashes ^= part
                hashes *= np.uint64(multiplier)
            hashes ^= hashes >> np.uint64(29)
            hashes[(parts[0] == parts[1]) & (parts[1] == parts[2])] = _NO_MARK
            yield hashes


def _distinct(hashes: Iterable[NDArray[Any]]) -> NDArray[Any]:
    """All of them, ascending, each once; `numpy.unique` is a hundred times slower on so many."""
    import numpy as np

    ordered = np.concatenate([np.empty(0, dtype="<u8"), *hashes])
    ordered.sort()
    return ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])] if len(ordered) else ordered
