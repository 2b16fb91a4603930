from __future__ import annotations

import importlib.metadata
import json
import socket
import sqlite3
import subprocess
import sys
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace

import pytest

from prlm_cli.core.workspace import Workspace
from prlm_cli.pipeline import doctor as module
from prlm_cli.pipeline.doctor import Check, doctor

Part = namedtuple("Part", "mountpoint fstype")
WHOLE = [Check("python", "ok", "3.12.1"), Check("disk", "warn", "1.0 GB free", "free some space")]
TORN = [*WHOLE, Check("torch", "fail", "not installed", "pip install --upgrade 'torch>=2.8'")]


def only(checks):
    (check,) = checks
    return check


@pytest.fixture
def found(monkeypatch):
    """Replaces what the command finds."""

    def use(checks):
        monkeypatch.setattr(module, "doctor", lambda workspace: iter(checks))

    return use


def test_doctor_prints_a_line_a_check_and_what_to_do(prlm, found):
    found(TORN)

    result = prlm("doctor")

    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "ok    python           3.12.1",
        "warn  disk             1.0 GB free",
        "      fix: free some space",
        "fail  torch            not installed",
        "      fix: pip install --upgrade 'torch>=2.8'",
    ]
    assert result.stderr == "prlm: not in order: torch; each failing line says what to do\n"


@pytest.mark.parametrize(("checks", "code"), [(WHOLE, 0), (TORN, 1)], ids=["warnings only", "a failing line"])
def test_doctor_as_json(prlm, found, checks, code):
    found(checks)

    result = prlm("doctor", "--json")

    assert result.exit_code == code
    assert json.loads(result.stdout)[1] == {
        "name": "disk",
        "status": "warn",
        "detail": "1.0 GB free",
        "fix": "free some space",
    }


def test_doctor_checks_this_machine_and_sends_nothing(prlm, workspace, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a connection was tried")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)

    result = prlm("doctor", "-w", workspace, "--json")
    checks = {check["name"]: check for check in json.loads(result.stdout)}

    assert {"python", "torch", "SQLite", "CPU", "memory", "GPU", "4-bit", "embedded model", "disk"} <= checks.keys()
    assert checks["index"] == {
        "name": "index",
        "status": "ok",
        "detail": "3 users, 24 documents, 12 queries",
        "fix": "",
    }
    assert checks["workspace"]["status"] == "ok"
    assert all(bool(check["fix"]) == (check["status"] != "ok") for check in checks.values())
    assert result.exit_code == any(check["status"] == "fail" for check in checks.values())


def test_doctor_makes_nothing(tmp_path, monkeypatch):
    for name in ("_gpu", "_four_bit", "_model"):
        monkeypatch.setattr(module, name, lambda: iter(()))
    folder = tmp_path / "new" / ".prlm"

    checks = {check.name: check for check in doctor(Workspace(folder))}

    assert checks["workspace"] == Check("workspace", "ok", f"{folder}, not made yet")
    assert checks["index"] == Check("index", "ok", "none yet")
    assert not folder.parent.exists()


@pytest.mark.parametrize(
    ("version", "status", "detail"),
    [
        ("1.16.4", "ok", "1.16.4"),
        ("1.15.9", "fail", "1.15.9, <1.17,>=1.16 is needed"),
        ("1.17.0", "warn", "1.17.0, <1.17,>=1.16 is needed"),
        (None, "fail", "not installed"),
    ],
    ids=["as required", "too old", "newer than tested", "missing"],
)
def test_packages_are_held_against_the_requirements_of_the_distribution(monkeypatch, version, status, detail):
    distribution = SimpleNamespace(
        metadata={"Requires-Python": ">=3.11"}, requires=["trl<1.17,>=1.16", 'pytest>=99; extra == "test"']
    )
    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: distribution)
    monkeypatch.setattr(module, "_installed", lambda name: version)

    python, trl = module._packages()

    assert (python.name, python.status) == ("python", "ok")
    assert trl == Check("trl", status, detail, "" if status == "ok" else "pip install --upgrade 'trl<1.17,>=1.16'")


def test_packages_without_an_installed_distribution_warn(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)

    assert only(module._packages()).status == "warn"


def test_an_old_sqlite_fails(monkeypatch):
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 31, 1))

    assert only(module._sqlite()).status == "fail"


@pytest.mark.parametrize(
    ("error", "status"), [(0.1, "ok"), (0.9, "fail")], ids=["rounding only", "wrong results of the kernel"]
)
def test_four_bit_is_judged_by_its_results(monkeypatch, error, status):
    monkeypatch.setattr(module, "_four_bit_error", lambda: error)

    assert only(module._four_bit()).status == status


def test_four_bit_computes_on_this_machine():
    assert 0.01 < module._four_bit_error() < 0.25


def test_trying_four_bit_says_nothing_on_the_streams():
    code = "from prlm_cli.pipeline import doctor; assert list(doctor._four_bit())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout + done.stderr == ""


def test_a_missing_bitsandbytes_fails_with_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)

    check = only(module._four_bit())

    assert check.status == "fail"
    assert "without --qlora" in check.fix


def test_no_gpu_is_in_order_but_an_unusable_one_is_not(monkeypatch, tmp_path):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(module, "_NVIDIA_DRIVER", tmp_path / "none")
    assert only(module._gpu()).status == "ok"

    monkeypatch.setattr(module, "_NVIDIA_DRIVER", tmp_path)
    assert only(module._gpu()).status == "warn"


@pytest.mark.parametrize(
    ("cpu", "has_bf16"),
    [
        (SimpleNamespace(get_capabilities=lambda: {"avx2": True, "avx512_bf16": True}), True),
        (SimpleNamespace(get_capabilities=lambda: {"amx_bf16": True}), True),
        (SimpleNamespace(get_capabilities=lambda: {"avx2": True, "avx512_bf16": False}), False),
        (SimpleNamespace(), False),
    ],
    ids=["AVX-512", "AMX", "neither", "an old torch"],
)
def test_bf16_is_named_where_the_processor_has_it(cpu, has_bf16, monkeypatch, tmp_path):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch, "cpu", cpu)
    monkeypatch.setattr(module, "_NVIDIA_DRIVER", tmp_path / "none")

    assert ("model.precision=bf16" in only(module._gpu()).detail) == has_bf16


@pytest.mark.parametrize(("has_bf16", "status"), [(True, "ok"), (False, "warn")], ids=["bf16", "no bf16"])
def test_a_gpu_is_described(has_bf16, status):
    properties = SimpleNamespace(name="Card", total_memory=8 * 10**9, major=8, minor=6)
    cuda = SimpleNamespace(
        is_available=lambda: True,
        device_count=lambda: 1,
        get_device_properties=lambda number: properties,
        is_bf16_supported=lambda including_emulation: has_bf16,
    )

    gpu, bf16 = module._usable_gpus(SimpleNamespace(cuda=cuda, version=SimpleNamespace(cuda="12.8")))

    assert gpu == Check("GPU", "ok", "Card, 8.0 GB, compute 8.6, CUDA 12.8")
    assert (bf16.name, bf16.status) == ("bf16", status)


def test_the_embedded_model_is_looked_for_in_both_caches(monkeypatch, tmp_path):
    from prlm_cli.models import loading, packages

    cache = tmp_path / "cache"
    monkeypatch.setattr(packages, "cache_folder", lambda: cache)
    monkeypatch.setattr(loading, "_from_hub", lambda name, local_only: (None, ""))
    assert only(module._model()) == Check(
        "embedded model", "warn", "SmolLM2-135M-Instruct is not in the cache", "prlm pull"
    )

    monkeypatch.setattr(loading, "_from_hub", lambda name, local_only: (Path("/hub/snapshot"), ""))
    assert only(module._model()) == Check("embedded model", "ok", "/hub/snapshot")

    converted = cache / "SmolLM2-135M-Instruct"
    converted.mkdir(parents=True)
    (converted / "config.json").touch()
    assert only(module._model()) == Check("embedded model", "ok", str(converted))


def test_little_memory_or_disk_warns(monkeypatch, tmp_path):
    import psutil

    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=10**9, total=16 * 10**9))
    monkeypatch.setattr(module.shutil, "disk_usage", lambda folder: SimpleNamespace(free=10**9))
    _, memory = module._processor()

    assert (memory.status, memory.detail) == ("warn", "1.0 GB of 16.0 GB available")
    assert only(module._disk(tmp_path / "none yet")).status == "warn"


@pytest.mark.parametrize(
    ("kind", "status"), [("nfs4", "warn"), ("cifs", "warn"), ("9p", "warn"), ("fuse.sshfs", "warn"), ("ext4", "ok")]
)
def test_the_file_system_is_that_of_the_deepest_and_last_mount(monkeypatch, tmp_path, kind, status):
    import psutil

    here = str(tmp_path.resolve())
    parts = [
        Part("/", "ext4"),
        Part(here, "hidden"),
        Part(here, kind),
        Part("/elsewhere", "nfs"),
        Part(f"{here}x", "nfs"),
    ]
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: parts)

    check = only(module._file_system(tmp_path / "not" / "made"))

    assert (check.status, check.detail.startswith(kind)) == (status, True)


def test_a_damaged_index_fails(workspace):
    path = workspace / "index.sqlite"
    with path.open("r+b") as stream:
        stream.seek(100)
        stream.write(b"\xff" * (path.stat().st_size - 100))

    check = only(module._index(Workspace(workspace)))

    assert (check.status, check.fix) == (
        "fail",
        "try `prlm index --rebuild`; if that fails too, index the data into a new workspace",
    )


def test_the_workspace_must_be_a_folder_of_ones_own(tmp_path, monkeypatch):
    folder = tmp_path / "workspace"
    folder.mkdir(mode=0o700)
    assert only(module._permissions(folder)).status == "ok"

    folder.chmod(0o755)
    assert only(module._permissions(folder)).fix == f"chmod 700 {folder}"

    monkeypatch.setattr(module.os, "access", lambda path, mode: mode == module.os.F_OK)
    assert only(module._permissions(folder)).status == "fail"

    (tmp_path / "file").touch()
    assert only(module._permissions(tmp_path / "file")).detail.endswith("is not a folder")
