"""One large JSON array, read element by element: memory holds one element, not the file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import IO

from prlm_cli.core import jsonl
from prlm_cli.core.errors import DataError
from prlm_cli.core.jsonl import Line, OnFault

OPENING = re.compile(rb'(?:\xef\xbb\xbf)?\s*(?:\{[^\[\]{}]*"golds"\s*:\s*)?\[')
"""How such a file begins: with the array, or an object around it, as LaMP has its outputs."""

# An object or array with none in it; a string, whole or cut off where the chunk ends; what opens, closes or parts.
# Possessive: it never goes back. The first of these is for speed: a history is thousands of flat objects.
_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+'
_TOKEN = re.compile(rb'[\[{](?:[^"\[\]{}]++|' + _STRING + rb'")*+[\]}]|' + _STRING + rb'("?)|[\[\]{},]', re.DOTALL)
_CHUNK = 2**18


def read_objects(path: Path, on_fault: OnFault | None = None, *, noun: str = "element") -> Iterator[Line]:
    """The objects of the array in a file, `.gz` and `.zst` unpacked; `where` counts them from 1.

    Raises:
        DataError: If the file holds no array or is damaged, or an element is not one JSON object and there is no
            `on_fault`.
    """
    name = jsonl.name_of(path)
    with jsonl.open_stream(path) as stream, jsonl.naming_damage(name):
        for number, element in enumerate(_elements(name, stream), start=1):
            where = f"{name}, {noun} {number}"
            try:
                fields = jsonl.decode(where, element)
            except DataError as error:
                if on_fault is None:
                    raise
                on_fault(error, element.decode(errors="backslashreplace"))
            else:
                yield Line(where, fields)


def _elements(name: str, stream: IO[bytes]) -> Iterator[bytes]:
    """The raw elements of the array."""
    buffer = stream.read(_CHUNK)
    opening = OPENING.match(buffer)
    if not opening:
        raise DataError(f"{name}: not a JSON array", hint="it should begin with [")
    start = position = opening.end()  # of the element, and of what was not looked at
    depth = 0
    while True:
        for token in _TOKEN.finditer(buffer, position):
            mark = token[0]
            if token[1] == b"":
                break  # the string goes on in the next chunk
            position = token.end()
            if len(mark) > 1:
                continue
            if mark in b"[{":
                depth += 1
            elif depth and mark in b"]}":
                depth -= 1
            elif depth == 0 and mark in b",]":
                element = buffer[start : token.start()]
                if element.strip() or mark == b",":
                    yield element
                start = position
                if mark == b"]":
                    _check_end(name, buffer[position:], stream, is_wrapped=opening[0].lstrip()[:1] == b"{")
                    return
        if len(buffer) - start > jsonl.MAX_LINE_BYTES:
            raise jsonl.too_long(name)
        chunk = stream.read(_CHUNK)
        if not chunk:
            raise DataError(f"{name}: the array does not end", hint="the file is cut short")
        buffer = buffer[start:] + chunk
        position -= start
        start = 0


def _check_end(name: str, rest: bytes, stream: IO[bytes], *, is_wrapped: bool) -> None:
    for piece in chain([rest], iter(lambda: stream.read(_CHUNK), b"")):  # all, for the checksum of an archive
        if piece.strip() and not is_wrapped:
            raise DataError(f"{name}: something follows the array", hint="a file holds one array")
