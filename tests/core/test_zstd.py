from __future__ import annotations

import io
import tracemalloc

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from prlm_cli.core.zstd import ZstdFile


def _pack(content: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(content)


@given(st.lists(st.binary(max_size=9000), max_size=4), st.integers(1, 5000))
def test_frames_come_back_one_after_another_however_they_are_read(contents, size):
    stream = ZstdFile(io.BytesIO(b"".join(map(_pack, contents))))

    assert b"".join(iter(lambda: stream.read(size), b"")) == b"".join(contents)


@pytest.mark.parametrize("cut", [1, 5, 60, 700])
def test_a_frame_that_ends_early_is_an_error(cut):
    packed = _pack(bytes(range(256)) * 3) + _pack(b"".join(b"%d," % (n * n) for n in range(3000)))

    with pytest.raises(EOFError, match="before the end of its last frame"):
        ZstdFile(io.BytesIO(packed[:-cut])).readall()


def test_other_bytes_are_an_error():
    with pytest.raises(OSError, match="zstd"):
        ZstdFile(io.BytesIO(b"no frames at all")).readall()


def test_a_file_made_to_fill_the_memory_is_unpacked_in_pieces():
    stream = ZstdFile(io.BytesIO(_pack(bytes(2**29))))
    tracemalloc.start()
    try:
        size = sum(map(len, iter(lambda: stream.read(2**16), b"")))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert size == 2**29 and peak < 2**27


def test_closing_it_closes_the_packed_stream():
    packed = io.BytesIO(_pack(b"x"))
    with ZstdFile(packed) as stream:
        assert stream.readable()

    assert packed.closed
