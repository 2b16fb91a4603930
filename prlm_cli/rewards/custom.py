"""A reward function of the user's own, from a module that Python can import.

    def brevity(*, completions: list[str], queries: list[Retrieved]) -> list[float | None]: ...

It is called with all completions of a step, prompts excluded, and the query of each with its target and records; it
returns one finite number for each, in order, or None where it does not apply.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from importlib import import_module
from numbers import Real
from typing import Any

from prlm_cli.core.errors import SettingsError
from prlm_cli.core.records import Retrieved

_SIGNATURE = "a function that takes completions and queries"


class Custom:
    """A reward function whose every result is checked.

    Args:
        name: As it stands in the settings.
        function: As the module describes it.
    """

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self._name = name
        self._function = function

    def __call__(self, *, completions: Sequence[str], queries: Sequence[Retrieved]) -> list[float | None]:
        """One reward a completion; what the function raises goes on as it is.

        Raises:
            SettingsError: If the function does not return one finite number, or None, for each completion.
        """
        values = self._function(completions=list(completions), queries=list(queries))
        if not isinstance(values, Sequence) or isinstance(values, str):
            raise self._wrong(f"returned a {type(values).__name__}")
        if len(values) != len(completions):
            raise self._wrong(f"returned {len(values)} values for {len(completions)} completions")
        return [self._checked(value, query) for value, query in zip(values, queries, strict=True)]

    def _checked(self, value: Any, query: Retrieved) -> float | None:
        if value is None:
            return None
        if not isinstance(value, Real):
            raise self._wrong(f"returned a {type(value).__name__} for query {query.query_id}")
        if not math.isfinite(value):
            raise self._wrong(f"is not finite for query {query.query_id}")
        return float(value)

    def _wrong(self, what: str) -> SettingsError:
        return SettingsError(
            f"reward '{self._name}' {what}", hint="return a list of one finite number or None a completion"
        )


def load_custom(name: str) -> Custom:
    """The reward function that "package.module:function" names; its module is imported.

    Raises:
        SettingsError: If it is not there, or does not take `completions` and `queries`.
    """
    module_name, _, attribute = name.partition(":")
    if not all(part.isidentifier() for part in [*module_name.split("."), attribute]):
        raise SettingsError(f"reward '{name}' is not package.module:function", hint=f"name {_SIGNATURE}")
    try:
        module = import_module(module_name)
    except ImportError as error:
        raise SettingsError(
            f"reward '{name}': cannot import {error.name or module_name}", hint="install it, or set PYTHONPATH"
        ) from error
    function = getattr(module, attribute, None)
    if not callable(function):
        raise SettingsError(f"reward '{name}': no function '{attribute}' in {module_name}", hint=f"name {_SIGNATURE}")
    try:
        inspect.signature(function).bind(completions=[], queries=[])
    except (TypeError, ValueError) as error:
        raise SettingsError(f"reward '{name}' cannot be called as one", hint=f"name {_SIGNATURE}") from error
    return Custom(name, function)
