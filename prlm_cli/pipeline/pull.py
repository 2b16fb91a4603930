"""`prlm pull`: models into the cache, so that everything works offline after it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from prlm_cli.core.reporting import Reporter
from prlm_cli.core.settings import EMBEDDED_MODEL


class Pulled(NamedTuple):
    """A model and the folder where it lies."""

    model: str
    path: Path


def pull(models: Sequence[str] = (), *, reporter: Reporter | None = None) -> Iterator[Pulled]:
    """Each model with its local folder, fetched where it was not there yet.

    Args:
        models: Names; none stands for the embedded model.
        reporter: Told about downloads.

    Raises:
        MissingError: If a model is nowhere to be had.
    """
    from prlm_cli.models.loading import resolve_model

    for model in models or (EMBEDDED_MODEL,):
        yield Pulled(model, resolve_model(model, reporter))
