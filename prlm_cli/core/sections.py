"""Sections of settings: frozen records whose fields carry limits and a sentence of help, and which check their values.

    steps: Annotated[Count, "Optimiser steps."] = 16

Msgspec checks the values: an integer will do for a number, and nothing else is taken for what it is not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from functools import cache
from math import isfinite
from types import NoneType
from typing import Annotated, Any, Literal, NamedTuple, Self, get_args, get_origin

import msgspec

from prlm_cli.core.errors import SettingsError

Natural = Annotated[int, msgspec.Meta(ge=0)]
Count = Annotated[int, msgspec.Meta(ge=1)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]
Positive = Annotated[float, msgspec.Meta(gt=0)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]

_NOUNS = {bool: "true or false", int: "an integer", float: "a number", str: "a string", list: "a list of strings"}
_LIMITS = {"ge": "of at least", "gt": "above", "le": "at most", "lt": "below"}


class WrongSetting(SettingsError):
    """A value that a setting may not have, or, without `expected`, a key that there is not.

    Args:
        key: Which, as "section.key".
        expected: What the value may be.
        hint: What to do next.
    """

    def __init__(self, key: str, expected: str = "", *, hint: str = "see --help") -> None:
        super().__init__(f"{key}: expected {expected}" if expected else f"unknown key {key}", hint=hint)
        self.key = key
        self.expected = expected


class Setting(NamedTuple):
    """A setting as it is declared: its type with limits, its default and its sentence of help."""

    type: Any
    default: Any
    help: str


class Section(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """A frozen group of settings, or of such groups.

    Raises:
        WrongSetting: If a value is not allowed.
    """

    def __post_init__(self) -> None:
        for name, setting in settings_of(type(self)).items():
            value = getattr(self, name)
            if value is not setting.default:  # most are, and defaults are known to be right
                msgspec.structs.force_setattr(self, name, _checked(setting.type, value, name))

    @classmethod
    def of(cls, table: Mapping[str, Any], key: str = "") -> Self:
        """The section that a table gives, with the defaults for what it leaves out.

        Args:
            table: Values by name; those of a section within this one are a table of their own.
            key: Of the section itself, where it stands in another.

        Raises:
            WrongSetting: If a name is unknown or a value is not allowed; the key is the whole one.
        """
        for name in table:
            if name not in cls.__struct_fields__:
                raise WrongSetting(_join(key, name))
        try:
            return cls(**table)
        except WrongSetting as error:
            raise WrongSetting(_join(key, error.key), error.expected, hint=error.hint) from error


@cache
def settings_of(section: type[Section]) -> dict[str, Setting]:
    """The settings of a section by name, in the order they are declared."""
    return {
        field.name: Setting(field.type, _default_of(field), _help_of(field.type))
        for field in msgspec.structs.fields(section)
    }


def bare(kind: Any) -> Any:
    """A type without its limits, and without None where that stands for "not set"."""
    parts = get_args(kind)
    if get_origin(kind) is Annotated:
        return bare(parts[0])
    return bare(next(part for part in parts if part is not NoneType)) if NoneType in parts else kind


def _checked(kind: Any, value: Any, key: str) -> Any:
    plain = bare(kind)
    if isinstance(plain, type) and issubclass(plain, Section) and isinstance(value, Mapping):
        return plain.of(value, key)
    if get_origin(plain) is dict and isinstance(value, Mapping):
        return {name: _checked(get_args(plain)[1], item, _join(key, name)) for name, item in value.items()}
    if isinstance(value, date):  # TOML has dates of its own, where they are not quoted
        value = value.isoformat()
    try:
        found = msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise WrongSetting(key, in_words(kind)) from error
    if isinstance(found, float) and not isfinite(found):
        raise WrongSetting(key, "a finite number")
    return found


def in_words(kind: Any) -> str:
    """What a setting of that type may be: "an integer of at least 1"."""
    plain = bare(kind)
    if get_origin(plain) is Literal:
        *others, last = (f"'{value}'" for value in get_args(plain))
        return f"{', '.join(others)} or {last}"
    limits = [(words, getattr(meta, name)) for meta in _metas_of(kind) for name, words in _LIMITS.items()]
    said = " and ".join(f"{words} {limit:g}" for words, limit in limits if limit is not None)
    return f"{_NOUNS.get(get_origin(plain) or plain, 'a table')} {said}".rstrip()


def _metas_of(kind: Any) -> Iterator[msgspec.Meta]:
    yield from (note for note in getattr(kind, "__metadata__", ()) if isinstance(note, msgspec.Meta))
    for part in get_args(kind):
        yield from _metas_of(part)


def _default_of(field: msgspec.structs.FieldInfo) -> Any:
    return field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()


def _help_of(kind: Any) -> str:
    return next((note for note in getattr(kind, "__metadata__", ()) if isinstance(note, str)), "")


def _join(section: str, name: str) -> str:
    return f"{section}.{name}" if section else name
