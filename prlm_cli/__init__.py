"""Personalised retrieval-augmented generation with learned, explicit reasoning.

Each command is a thin layer over one function of `prlm_cli.pipeline`; the public names below are imported on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from prlm_cli.version import __version__

_PUBLIC = {
    "Workspace": "prlm_cli.core.workspace",
    "resolve": "prlm_cli.core.configuration",
    "PrlmError": "prlm_cli.core.errors",
    "index": "prlm_cli.pipeline.index",
    "retrieve": "prlm_cli.pipeline.retrieve",
    "pairs": "prlm_cli.pipeline.pairs",
    "train_reward": "prlm_cli.pipeline.train_reward",
    "train_policy": "prlm_cli.pipeline.train_policy",
    "generate": "prlm_cli.pipeline.generate",
    "evaluate": "prlm_cli.pipeline.evaluate",
    "retrieval_quality": "prlm_cli.pipeline.retrieval_quality",
    "compare": "prlm_cli.pipeline.compare",
    "score": "prlm_cli.pipeline.score",
    "plan": "prlm_cli.pipeline.plan",
    "recognise": "prlm_cli.pipeline.recognise",
    "show": "prlm_cli.pipeline.show",
    "export": "prlm_cli.pipeline.export",
    "forget": "prlm_cli.pipeline.forget",
    "load_recipe": "prlm_cli.pipeline.run",
    "run": "prlm_cli.pipeline.run",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'prlm_cli' has no attribute '{name}'")
    return getattr(import_module(_PUBLIC[name]), name)
