"""Commands in fresh processes: what they took, and what they wrote."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

_ROOT = Path(__file__).parents[2]
_LAUNCH = Path(__file__).with_name("launch.py")
_NO_BYTECODE = "PYTHONDONTWRITEBYTECODE"
_BYTECODE = tempfile.TemporaryDirectory(prefix="prlm-bench-bytecode-")


class Usage(NamedTuple):
    """What a process took: `wall` and `cpu` in seconds, `peak_mb` in MB. `stdout` is what it wrote."""

    wall: float
    cpu: float
    peak_mb: float
    stdout: str


def python(*arguments: object) -> list[str]:
    """A command line of this interpreter."""
    return [sys.executable, *map(str, arguments)]


def prlm(*arguments: object) -> list[str]:
    """A command line of this checkout's `prlm`."""
    return python("-m", "prlm_cli", *arguments)


def environment() -> dict[str, str]:
    """The environment of every process: this checkout is what is imported, compiled once, as installed code is."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PRLM_WORKSPACE", _NO_BYTECODE)}
    path = os.pathsep.join(filter(None, [str(_ROOT), kept.get("PYTHONPATH")]))
    return {**kept, "PYTHONPATH": path, "PYTHONPYCACHEPREFIX": _BYTECODE.name}


def run(command: list[str]) -> Usage:
    """Runs a command to its end.

    Raises:
        RuntimeError: If it fails.
    """
    with tempfile.TemporaryDirectory(prefix="prlm-bench-run-") as folder:
        stdout = Path(folder) / "stdout"
        launch = [sys.executable, "-I", "-S", str(_LAUNCH), str(stdout), *command]
        done = subprocess.run(launch, capture_output=True, text=True, check=True, env=environment())
        taken = json.loads(done.stdout)
        if taken.pop("exit_code"):
            raise RuntimeError(f"{' '.join(command)[:200]} failed: {done.stderr[-2000:]}")
        return Usage(**taken, stdout=stdout.read_text(encoding="utf-8"))
