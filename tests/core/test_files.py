from __future__ import annotations

import errno
import stat

import pytest

from prlm_cli.core.errors import StorageError
from prlm_cli.core.files import replace_file, where_disk_ends


def test_a_file_is_replaced_as_a_whole_and_only_its_owner_may_read_it(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    replace_file(path, [b"new ", b"bytes"])

    assert path.read_bytes() == b"new bytes"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_content_that_ends_in_an_error_leaves_the_file_as_it_was(tmp_path):
    def content():
        yield b"half"
        raise ZeroDivisionError

    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError):
        replace_file(path, content())

    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_not_there_is_a_storage_error(tmp_path):
    with pytest.raises(StorageError, match="No such file or directory; check the folder and its permissions"):
        replace_file(tmp_path / "none" / "file", [b""])


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (OSError(errno.EFBIG, "File too large"), "File too large"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "No space left on device"),
        (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"), "a file could not be"),
        (RuntimeError("basic_ios::clear: iostream error"), "a file could not be"),
    ],
    ids=["python", "a limit of the size", "safetensors", "torch", "torch, at its beginning"],
)
def test_a_full_disk_is_recognised_by_what_the_libraries_say_of_it(error, reason):
    assert where_disk_ends(error).startswith(reason)


@pytest.mark.parametrize("error", [OSError(errno.EACCES, "Permission denied"), RuntimeError("shapes differ")])
def test_any_other_error_is_no_full_disk(error):
    assert where_disk_ends(error) is None
