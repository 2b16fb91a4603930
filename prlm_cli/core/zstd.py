"""Zstandard files, unpacked as they are read; one that is cut short is an error, as `gzip` has it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import IO, Any

# At its best 1 kB unpacks to 32 MB, so a file made to exhaust the memory cannot; larger chunks are hardly faster.
_CHUNK = 1024


class ZstdFile(io.RawIOBase):
    """The unpacked bytes of a stream of Zstandard frames.

    Reading raises EOFError where the last frame ends early, OSError where the bytes are no such frames.
    """

    def __init__(self, packed: IO[bytes]) -> None:
        super().__init__()
        self._packed = packed
        self._pieces = _unpack(packed)
        self._piece = memoryview(b"")

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fills as much of the buffer as is at hand, and returns how many bytes; 0 at the end."""
        while not self._piece:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._piece = memoryview(piece)
        count = min(len(buffer), len(self._piece))
        buffer[:count] = self._piece[:count]
        self._piece = self._piece[count:]
        return count

    def close(self) -> None:
        """Closes the packed stream too."""
        self._packed.close()
        super().close()


def _unpack(packed: IO[bytes]) -> Iterator[bytes]:
    import zstandard

    frame = None
    while chunk := packed.read(_CHUNK):
        while chunk:
            frame = frame or zstandard.ZstdDecompressor().decompressobj()
            try:
                yield frame.decompress(chunk)
            except zstandard.ZstdError as error:
                raise OSError(str(error)) from error
            chunk = frame.unused_data if frame.eof else b""
            frame = None if frame.eof else frame
    if frame:
        raise EOFError("the compressed file ended before the end of its last frame")
