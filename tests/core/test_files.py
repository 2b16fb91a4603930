from __future__ import annotations

import stat

import pytest

from prlm_cli.core.errors import StorageError
from prlm_cli.core.files import replace_file


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
