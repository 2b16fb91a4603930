"""The best adapter of a run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prlm_cli.core.workspace import Run, read_json, write_text


class BestAdapter:
    """The best adapter of a run by its held-out score; best.json says which folder that is, and is replaced at once."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._folder = run.folder
        self._file = run.folder / "best.json"

    @property
    def adapter(self) -> Path:
        """The folder of the best adapter."""
        return self._of_step(self.as_dict()["best_step"])

    def offer(self, step: int, score: float, save: Callable[[Path], None]) -> None:
        """Keeps the adapter of a step if none before scored higher.

        Args:
            step: That was judged.
            score: The higher, the better.
            save: Writes the adapter into a folder.
        """
        known = self.as_dict()
        if not known or score > known["best_heldout"]:
            save(self._of_step(step))
            write_text(self._file, json.dumps({"best_step": step, "best_heldout": score}) + "\n")
            for other in self._folder.glob("best-*"):
                if other != self.adapter:
                    shutil.rmtree(other)

    def as_dict(self) -> dict[str, Any]:
        """`best_step` and `best_heldout`; empty before the first evaluation."""
        return read_json(self._file) if self._file.exists() else {}

    def _of_step(self, step: int) -> Path:
        return self._folder / f"best-{step}"

    def keep(self, model: Any, *, is_finite: bool) -> None:
        """Keeps the best adapter as that of the run, and the last beside it; where none was judged, the last.

        Args:
            model: With the last adapter.
            is_finite: Whether that is one of numbers.
        """
        from prlm_cli.models.adapters import save_adapter

        if not self.as_dict():
            save_adapter(model, self._run.adapter)
            return
        shutil.copytree(self.adapter, self._run.adapter, dirs_exist_ok=True)
        if is_finite:
            save_adapter(model, self._run.last)
