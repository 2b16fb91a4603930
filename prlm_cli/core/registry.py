"""Tables from a name to the code behind it, imported on first use: a listing imports nothing."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Generic, TypeVar, cast

from prlm_cli.core.errors import SettingsError, did_you_mean

Part = TypeVar("Part")


class Registry(Generic[Part]):
    """One kind of part, by name.

    Args:
        kind: What the parts are called in messages, for example "retriever".
        targets: Name -> "module:attribute".
    """

    def __init__(self, kind: str, targets: dict[str, str]) -> None:
        self.kind = kind
        self._targets = targets

    def __iter__(self) -> Iterator[str]:
        return iter(self._targets)

    def __getitem__(self, name: str) -> Part:
        """The part of that name.

        Raises:
            SettingsError: If there is none.
        """
        if name not in self._targets:
            raise SettingsError(f"no {self.kind} '{name}'", hint=did_you_mean(name, self._targets))
        module, attribute = self._targets[name].split(":")
        return cast(Part, getattr(import_module(module), attribute))
