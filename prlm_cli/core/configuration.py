"""The merging of the layers into one configuration.

Layers, weakest first: defaults, preset, configuration file, `--set`, flags. An unknown key is refused, with a hint.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from prlm_cli.core.errors import SettingsError, did_you_mean
from prlm_cli.core.presets import PRESETS
from prlm_cli.core.sections import Section, Setting, WrongSetting, settings_of
from prlm_cli.core.settings import Config, RunSettings

_RUN = "run"  # a recipe's own table


def read_recipe(path: Path) -> tuple[Config, list[str]]:
    """The configuration and the stages of a recipe.

    Raises:
        SettingsError: If the file cannot be read, a key is unknown or a value is not allowed.
    """
    return resolve(config_file=path), _run_settings(path, _read_toml(path)[1]).stages


def resolve(
    *,
    base: Config | None = None,
    preset: str = "default",
    config_file: Path | None = None,
    assignments: Iterable[str] = (),
    flags: Mapping[str, Any] | None = None,
) -> Config:
    """The configuration that the layers give.

    Args:
        base: What lies under all other layers, instead of the defaults.
        preset: A name in `PRESETS`.
        config_file: TOML with a table a section.
        assignments: "section.key=value", value in TOML syntax; a bare word is a string.
        flags: "section.key" -> value; None means not given.

    Raises:
        SettingsError: If a key is unknown or a value is not allowed; names where it came from.
    """
    if preset not in PRESETS:
        raise SettingsError(f"no preset '{preset}'", hint=did_you_mean(preset, PRESETS))
    values = _table(base or Config())
    origins: dict[str, str] = {}
    _overlay(values, PRESETS[preset])
    if config_file:
        text, table = _read_toml(config_file)
        _run_settings(config_file, table)  # not of the configuration, but a wrong key is wrong here too
        table.pop(_RUN, None)
        _overlay(values, table)
        origins |= {key: f"{config_file}:{_line_of(text, key)}: " for key in _flatten(table)}
    for assignment in assignments:
        key, value = _parse_assignment(assignment)
        _overlay(values, _nest(key, value))
        origins[key] = "--set "
    for key, value in (flags or {}).items():
        if value is not None:
            _overlay(values, _nest(key, value))
            origins[key] = ""
    return _validate(values, origins)


def to_toml(config: Config) -> str:
    """The whole configuration as TOML that `resolve` reads back to the same; keys that are not set are left out."""
    import tomli_w

    return tomli_w.dumps(_table(config))


def describe(key: str) -> Setting:
    """The setting behind "section.key" or "key".

    Raises:
        KeyError: If there is none.
    """
    *sections, name = key.split(".")
    section: type[Section] = Config
    for part in sections:
        section = settings_of(section)[part].type
    return settings_of(section)[name]


def _run_settings(path: Path, table: dict[str, Any]) -> RunSettings:
    given = table.get(_RUN, {})
    try:
        if not isinstance(given, dict):
            raise WrongSetting(_RUN, "a table")
        return RunSettings.of(given, _RUN)
    except WrongSetting as error:
        raise SettingsError(f"{path}: {error.message}", hint=error.hint) from error


def _table(config: Config) -> dict[str, Any]:
    """The configuration as tables of a TOML file, which knows no null."""
    values = msgspec.to_builtins(config)
    return {
        name: {key: item for key, item in value.items() if item is not None} if isinstance(value, dict) else value
        for name, value in values.items()
    }


def _validate(values: dict[str, Any], origins: dict[str, str]) -> Config:
    try:
        return Config.of(values)
    except WrongSetting as error:
        hint = error.hint if error.expected else did_you_mean(error.key, _known_keys())
        raise SettingsError(f"{_origin(error.key, origins)}{error.message}", hint=hint) from error


def _origin(key: str, origins: dict[str, str]) -> str:
    """Where a key came from: where it was given, or its table, or something in it."""
    related = (
        origin
        for other, origin in origins.items()
        if f"{key}.".startswith(f"{other}.") or f"{other}.".startswith(f"{key}.")
    )
    return origins.get(key, next(related, ""))


def _known_keys() -> list[str]:
    sections = {name: getattr(setting.type, "__struct_fields__", ()) for name, setting in settings_of(Config).items()}
    return [*sections, *(f"{section}.{name}" for section, names in sections.items() for name in names)]


def _read_toml(path: Path) -> tuple[str, dict[str, Any]]:
    import tomllib

    try:
        text = path.read_text(encoding="utf-8")
        return text, tomllib.loads(text)
    except FileNotFoundError as error:
        raise SettingsError(f"{path}: no such file", hint="--config names a TOML file") from error
    except (OSError, ValueError, RecursionError) as error:
        raise SettingsError(f"{path}: {error}", hint="a configuration file is TOML") from error


def _line_of(text: str, key: str) -> int:
    """The line that gives a key, under its table's header or dotted; 1 where it is written some other way."""
    table = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*\[([^\[\]]+)\]", line):
            table = f"{header[1].strip()}."
        elif (name := line.partition("=")[0].strip()) and f"{table}{name}" == key:
            return number
    return 1


def _parse_assignment(assignment: str) -> tuple[str, Any]:
    import tomllib

    key, equals, value = assignment.partition("=")
    if not equals:
        raise SettingsError(f"--set {assignment}: no '='", hint="write --set section.key=value")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value.strip()


def _nest(key: str, value: Any) -> dict[str, Any]:
    for part in reversed(key.split(".")):
        value = {part: value}
    assert isinstance(value, dict)
    return value


def _flatten(table: Mapping[str, Any], prefix: str = "") -> list[str]:
    keys = []
    for name, value in table.items():
        keys += _flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else [f"{prefix}{name}"]
    return keys


def _overlay(values: dict[str, Any], layer: Mapping[str, Any]) -> None:
    for key, value in layer.items():
        if isinstance(value, Mapping):
            nested = values.setdefault(key, {})
            if not isinstance(nested, dict):
                nested = values[key] = {}
            _overlay(nested, value)
        else:
            values[key] = value
