"""`prlm doctor`: what works on this machine, as one check after another. Nothing is sent over the network."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sqlite3
import stat
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from prlm_cli.core.errors import StorageError
from prlm_cli.core.settings import EMBEDDED_MODEL
from prlm_cli.core.workspace import Workspace

if TYPE_CHECKING:
    from packaging.specifiers import SpecifierSet

_DISTRIBUTION = "prlm"
_MIN_SQLITE = (3, 35)  # RETURNING
_MIN_MEMORY_BYTES = 2 * 10**9
_MIN_DISK_BYTES = 2 * 10**9
_NETWORK_FILE_SYSTEMS = ("nfs", "cifs", "smb", "9p", "fuse.sshfs")
_NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")
_LARGEST_ERROR = 0.25  # relative; NF4 alone costs about 0.1
# What a package raises that is missing, or whose compiled part does not load or run.
_BROKEN_LIBRARY = (ImportError, OSError, RuntimeError)


class Check(msgspec.Struct, frozen=True):
    """What one check found."""

    name: str
    status: Literal["ok", "warn", "fail"]
    detail: str
    fix: str = ""


def doctor(workspace: Workspace) -> Iterator[Check]:
    """The checks of this machine and of a workspace, each as soon as it is done.

    "warn" is what may go wrong, "fail" what does not work; both say how to mend it.
    """
    checks: list[Callable[[], Iterator[Check]]] = [
        _packages,
        _sqlite,
        _processor,
        _gpu,
        _four_bit,
        _model,
        lambda: _permissions(workspace.folder),
        lambda: _disk(workspace.folder),
        lambda: _file_system(workspace.folder),
        lambda: _index(workspace),
    ]
    for check in checks:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = list(check())
        yield from found


def _packages() -> Iterator[Check]:
    """Python and every package of the requirements in the installed distribution's own metadata."""
    try:
        from packaging.requirements import Requirement
        from packaging.specifiers import SpecifierSet
    except ImportError:
        yield Check("packages", "fail", "'packaging' is missing", "pip install packaging")
        return
    try:
        distribution = importlib.metadata.distribution(_DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        yield Check(
            "packages", "warn", "prlm runs without being installed: its requirements are unknown", "pip install prlm"
        )
        return
    allowed_python = SpecifierSet(distribution.metadata["Requires-Python"])
    yield _version("python", platform.python_version(), allowed_python, f"use Python {allowed_python}")
    for requirement in map(Requirement, distribution.requires or []):
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            wanted = f"{requirement.name}{requirement.specifier}"
            yield _version(
                requirement.name,
                _installed(requirement.name),
                requirement.specifier,
                f"pip install --upgrade '{wanted}'",
            )


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _version(name: str, version: str | None, allowed: SpecifierSet, fix: str) -> Check:
    """Too old fails; newer than what was tested may work, so it warns."""
    if version is None:
        return Check(name, "fail", "not installed", fix)
    if allowed.contains(version, prereleases=True):
        return Check(name, "ok", version)
    lower_bounds = (bound for bound in allowed if bound.operator in (">=", ">", "==", "~="))
    is_too_old = not all(bound.contains(version, prereleases=True) for bound in lower_bounds)
    return Check(name, "fail" if is_too_old else "warn", f"{version}, {allowed} is needed", fix)


def _sqlite() -> Iterator[Check]:
    needed = ".".join(map(str, _MIN_SQLITE))
    if sqlite3.sqlite_version_info >= _MIN_SQLITE:
        yield Check("SQLite", "ok", sqlite3.sqlite_version)
    else:
        detail = f"{sqlite3.sqlite_version}, >={needed} is needed"
        yield Check("SQLite", "fail", detail, "use a Python that was built with a newer SQLite")


def _processor() -> Iterator[Check]:
    try:
        import psutil
    except ImportError:
        return  # already a failing line among the packages
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Check("CPU", "ok", f"{cores} cores, {platform.machine()}")
    memory = psutil.virtual_memory()
    detail = f"{_gigabytes(memory.available)} of {_gigabytes(memory.total)} available"
    if memory.available < _MIN_MEMORY_BYTES:
        yield Check("memory", "warn", detail, "end other programs, or train with --qlora and smaller batches")
    else:
        yield Check("memory", "ok", detail)


def _gpu() -> Iterator[Check]:
    try:
        import torch

        found = list(_usable_gpus(torch))
    except _BROKEN_LIBRARY as error:
        yield Check("GPU", "fail", f"torch does not work: {_first_line(error)}", "pip install --force-reinstall torch")
        return
    if found:
        yield from found
    elif _NVIDIA_DRIVER.exists():
        detail = f"there is one, but torch {torch.__version__} cannot use it"
        yield Check("GPU", "warn", detail, "install the torch that fits the driver: https://pytorch.org/get-started")
    else:
        faster = ", or faster in bf16 (--set model.precision=bf16)" if _computes_bf16(torch.cpu) else ""
        yield Check("GPU", "ok", f"none: models run on the CPU, in fp32{faster}")


def _computes_bf16(cpu: Any) -> bool:
    """Whether the processor has instructions for products in bf16; False where torch is too old to say."""
    capabilities: dict[str, Any] = getattr(cpu, "get_capabilities", dict)()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


def _usable_gpus(torch: Any) -> Iterator[Check]:
    if not torch.cuda.is_available():
        return
    for number in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(number)
        detail = (
            f"{properties.name}, {_gigabytes(properties.total_memory)}, compute {properties.major}.{properties.minor}"
        )
        yield Check("GPU" if number == 0 else f"GPU {number}", "ok", f"{detail}, CUDA {torch.version.cuda}")
    if torch.cuda.is_bf16_supported(including_emulation=False):
        yield Check("bf16", "ok", "supported")
    else:
        yield Check("bf16", "warn", "not in this GPU's hardware: training is slow", "use a GPU of compute 8.0 or newer")


def _four_bit() -> Iterator[Check]:
    """4-bit layers as `--qlora` uses them: one forward and backward pass, held against full precision."""
    try:
        from prlm_cli.models.quiet import quiet_libraries

        with quiet_libraries():
            error = _four_bit_error()
    except _BROKEN_LIBRARY as problem:
        fix = "pip install --force-reinstall bitsandbytes, or train without --qlora"
        yield Check("4-bit", "fail", _first_line(problem), fix)
        return
    if error < _LARGEST_ERROR:
        yield Check("4-bit", "ok", "NF4 computes, forwards and backwards")
    else:
        detail = f"NF4 results are off by {error:.0%}"
        yield Check("4-bit", "fail", detail, "upgrade bitsandbytes, or train without --qlora")


def _four_bit_error() -> float:
    """The larger relative error of output and input gradient of a small NF4 layer."""
    import bitsandbytes
    import torch

    from prlm_cli.models.loading import device_and_dtype, keep_gradients

    device, dtype = device_and_dtype()
    random = torch.Generator().manual_seed(0)
    weight = torch.randn(64, 64, generator=random)
    inputs = torch.randn(8, 64, generator=random).to(device, dtype).requires_grad_()
    layer = bitsandbytes.nn.Linear4bit(64, 64, bias=False, compute_dtype=dtype, quant_type="nf4")
    layer.weight = bitsandbytes.nn.Params4bit(weight.clone(), requires_grad=False, quant_type="nf4")
    layer = layer.to(device)  # quantises
    keep_gradients(layer)
    outputs = layer(inputs)
    outputs.backward(torch.ones_like(outputs))
    assert inputs.grad is not None
    pairs = (
        (outputs.detach(), inputs.detach().float().cpu() @ weight.T),  # (8, 64)
        (inputs.grad, weight.sum(dim=0).expand(8, 64)),
    )
    return max(float((found.float().cpu() - true).norm() / true.norm()) for found, true in pairs)


def _model() -> Iterator[Check]:
    name = "embedded model"
    try:
        from prlm_cli.models.loading import cached_model

        found = cached_model(EMBEDDED_MODEL)
    except _BROKEN_LIBRARY as error:
        yield Check(name, "warn", f"cannot be looked for: {_first_line(error)}", "mend the lines above first")
        return
    if found:
        yield Check(name, "ok", str(found))
    else:
        yield Check(name, "warn", f"{EMBEDDED_MODEL} is not in the cache", "prlm pull")


def _permissions(folder: Path) -> Iterator[Check]:
    name = "workspace"
    there = _existing(folder)
    if not there.is_dir():
        yield Check(name, "fail", f"{there} is not a folder", "name another workspace with -w")
    elif not os.access(there, os.R_OK | os.W_OK | os.X_OK):
        yield Check(
            name, "fail", f"{there} cannot be written", f"chmod u+rwx {there}, or name another workspace with -w"
        )
    elif there != folder:
        yield Check(name, "ok", f"{folder}, not made yet")
    elif os.name == "posix" and stat.S_IMODE(folder.stat().st_mode) & 0o077:
        yield Check(name, "warn", f"{folder} is open to other accounts of this machine", f"chmod 700 {folder}")
    else:
        yield Check(name, "ok", str(folder))


def _disk(folder: Path) -> Iterator[Check]:
    free = shutil.disk_usage(_existing(folder)).free
    if free < _MIN_DISK_BYTES:
        yield Check("disk", "warn", f"{_gigabytes(free)} free", "free some space, or name another workspace with -w")
    else:
        yield Check("disk", "ok", f"{_gigabytes(free)} free")


def _file_system(folder: Path) -> Iterator[Check]:
    try:
        import psutil
    except ImportError:
        return
    where = _existing(folder).resolve()
    mounts = [part for part in psutil.disk_partitions(all=True) if where.is_relative_to(part.mountpoint)]
    if not mounts:
        return  # the system does not say
    # The deepest mount holds the folder; of two on the same point, the later one hides the earlier.
    kind = max(enumerate(mounts), key=lambda item: (len(Path(item[1].mountpoint).parts), item[0]))[1].fstype
    if kind.startswith(_NETWORK_FILE_SYSTEMS):
        detail = f"{kind}: SQLite's locks are not safe over a network"
        yield Check("file system", "warn", detail, "name a workspace on a local disk with -w")
    else:
        yield Check("file system", "ok", kind)


def _index(workspace: Workspace) -> Iterator[Check]:
    if not os.access(workspace.index, os.F_OK):  # unlike exists(), no error where the folder may not be read
        yield Check("index", "ok", "none yet")
        return
    try:
        with workspace.open_store() as store:
            verdict = store.quick_check()
            count = store.count()
    except StorageError as error:
        yield Check("index", "fail", error.message, error.hint)
        return
    if verdict == "ok":
        yield Check("index", "ok", ", ".join(f"{number} {name}" for name, number in count.items()))
    else:
        yield Check("index", "fail", _first_line(verdict), "index the data into a new workspace")


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return next(place for place in (folder, *folder.absolute().parents) if os.access(place, os.F_OK))


def _first_line(problem: object) -> str:
    return (str(problem).strip() or type(problem).__name__).splitlines()[0]


def _gigabytes(size_bytes: float) -> str:
    return f"{size_bytes / 10**9:.1f} GB"
